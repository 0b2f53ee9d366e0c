"""The cluster as it is written on the command line, and what is refused."""

import pytest

from cnnzoo.core.errors import CnnzooError
from cnnzoo.planning.cluster import Cluster, Group, Rate, read_cluster


def test_machines_are_told_from_gpus_by_the_first_letter():
    cluster = read_cluster("8x64, 4xH100,1xRTX-4090", ["H100=20.4e6/264", "RTX-4090=5e6", "core=9e4"])
    assert cluster.groups == (Group(8, "64"), Group(4, "H100"), Group(1, "RTX-4090"))
    assert [group.cores for group in cluster.groups] == [64, 0, 0]
    assert [group.label for group in cluster.groups] == ["8 machines with 64 cores", "4 H100", "1 RTX-4090"]
    assert cluster.rates == {"H100": Rate(20.4e6, 264), "RTX-4090": Rate(5e6), "core": Rate(9e4)}
    assert read_cluster("1x1").groups[0].label == "1 machine with 1 core"


def test_cores_need_no_rate():
    assert read_cluster("8x64") == Cluster((Group(8, "64"),))


def test_the_price_of_an_hour_is_that_of_all_machines_and_gpus():
    rates = ["H100=2e7"]
    assert read_cluster("8x64,4xH100", rates, ["64=1.25", "H100=2.5"]).hourly == 8 * 1.25 + 4 * 2.5
    assert read_cluster("8x64,4xH100", rates).hourly is None


@pytest.mark.parametrize(
    ("cluster", "rates", "prices", "words"),
    [
        ("8x64,4xH100", [], [], r"nobody has said how fast `H100` trains: add `--rate H100=.*never guessed"),
        ("4xA100,4xH100", ["A100=1"], [], r"how fast `H100` trains"),
        ("64", [], [], r"`64` is no group of a cluster.*COUNTxCORES"),
        ("", [], [], r"`` is no group"),
        ("8x64,", [], [], r"`` is no group"),
        ("8x-64", [], [], r"`8x-64` is no group"),
        ("8x64x2", [], [], r"`8x64x2` is no group"),
        ("0x64", [], [], r"`0x64`: counts and cores must be from 1 to 100,000"),
        ("2x0", [], [], r"`2x0`: counts and cores"),
        ("2x200000", [], [], r"`2x200000`: counts and cores"),
        ("200000xH100", ["H100=1"], [], r"counts and cores"),
        ("2x64,3x64", [], [], r"names a device twice"),
        ("2x64,3x064", [], [], r"names a device twice"),
        ("2xcore", [], [], r"`core` is the name of a core's rate"),
        ("2xH100", ["H100"], [], r"`H100` has not the form of a value"),
        ("2xH100", ["=3"], [], r"`=3` has not the form"),
        ("2xH100", ["H100="], [], r"`H100=` has not the form"),
        ("2xH100", ["H100=fast"], [], r"`fast` is no positive number"),
        ("2xH100", ["H100=0"], [], r"`0` is no positive number"),
        ("2xH100", ["H100=-3"], [], r"`-3` is no positive number"),
        ("2xH100", ["H100=inf"], [], r"`inf` is no positive number"),
        ("2xH100", ["H100=1e-308"], [], r"`1e-308` is no positive number.*values from 1e-06 to 1e\+15"),
        ("2xH100", ["H100=1e308"], [], r"`1e308` is no positive number"),
        ("2xH100", ["H100=nan"], [], r"`nan` is no positive number"),
        ("2xH100", ["H100=1/0"], [], r"networks are 1 to 100,000"),
        ("2xH100", ["H100=1/\u00b2"], [], r"networks are 1 to 100,000"),
        (f"{'2' * 5000}x64", [], [], r"is no group of a cluster"),
        ("2xH100", ["H100=1/many"], [], r"networks are 1 to 100,000"),
        ("2x64", ["core=9e4/2"], [], r"a core trains one"),
        ("2xH100", ["H100=1", "H100=2"], [], r"`H100` has two values, 1 and 2"),
        ("2xH100", ["H100=1", "H10=1"], [], r"`--rate H10=...`: the cluster has `H100`; did you mean `H100`"),
        ("2xH100", ["H100=1", "core=1"], [], r"`--rate core=...`: the cluster has `H100`"),
        ("2x64", ["64=9e4"], [], r"`--rate 64=...`: the cluster has `core`"),
        ("2x64", [], ["core=1"], r"`--price core=...`: the cluster has `64`"),
        ("2x64,1x8", [], ["64=1"], r"names no price of `8`"),
        ("2x64", [], ["64=cheap"], r"`cheap` is no positive number. `--price`"),
    ],
)
def test_what_cannot_be_read_or_is_not_known_is_refused(cluster, rates, prices, words):
    with pytest.raises(CnnzooError, match=words):
        read_cluster(cluster, rates, prices)
