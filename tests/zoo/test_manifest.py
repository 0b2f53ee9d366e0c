"""The manifest and the data card of a collection: true numbers, digests that find every change, the same bytes."""

import gzip
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from builders import make_collection, make_recipe
from cnnzoo.core.errors import CnnzooError
from cnnzoo.zoo import Collection, check, check_readable
from cnnzoo.zoo.card import collection_card, describe
from cnnzoo.zoo.facts import Facts
from cnnzoo.zoo.manifest import Training, read_trainings, trainings_of, write_manifest
from cnnzoo.zoo.shards import Origin, read_shards

FILES = ("weights.npy", "metrics.csv.gz", "layout.csv", "split.csv", "diverged.csv")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_collection(tmp_path_factory.mktemp("made"), networks=12, diverged={3: 20})


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name))


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def reseal(folder: Path, **changed: object) -> None:
    """Alter a manifest and give it the digest of what it now says."""
    content = {**manifest(folder), **changed}
    del content["sha256"]
    content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(content))


def test_it_says_what_the_collection_holds(made):
    said = manifest(made)
    kept = [make_recipe(network) for network in range(12) if network != 3]
    zoo = Collection.open(made)
    assert (said["networks"], said["diverged"], said["rows"], said["parameters"]) == (11, 1, 99, 4970)
    assert said["epochs"] == [0, 1, 2, 3, 20, 40, 60, 80, 86]
    assert said["training_networks"] == 5
    rates = [recipe.learning_rate for recipe in kept]
    assert said["hyperparameters"]["learning_rate"] == {"lowest": min(rates), "highest": max(rates)}
    assert said["hyperparameters"]["activation"] == {"values": ["relu", "tanh"]}
    final = zoo.metrics.iloc[zoo.final()]
    for column, values in said["accuracies"].items():
        levels = dict(zip(("lowest", "25%", "median", "75%", "highest"), (0, 0.25, 0.5, 0.75, 1), strict=True))
        assert values == {name: final[column].quantile(level) for name, level in levels.items()}
    assert said["files"] == {name: hashlib.sha256((made / name).read_bytes()).hexdigest() for name in FILES}


def test_it_says_how_the_networks_were_trained(made):
    (shard,) = {shard.origin for shard in read_shards(made.parents[1] / "checkpoints" / made.name)}
    assert read_trainings(made) == [Training(shard.engine, shard.numerics, shard.minibatch, shard.images, 12)]
    origins = [Origin("x", 64, "digest", engine, "1") for engine in ("native", "batched", "native")]
    assert trainings_of(origins) == [
        Training("batched", "1", 64, "digest", 1),
        Training("native", "1", 64, "digest", 2),
    ]


def test_a_sound_collection_is_as_its_manifest_says(folder):
    assert check(folder) == []


def swap_rows_of_a_network(split: bytes) -> bytes:
    first, second, *rest = split.splitlines(keepends=True)
    return b"".join([second, first, *rest])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metrics.csv.gz", lambda packed: gzip.compress(gzip.decompress(packed), 1, mtime=0)),
        ("split.csv", swap_rows_of_a_network),
        ("diverged.csv", lambda text: text.replace(b",20\n", b",40\n")),
    ],
)
def test_a_file_of_other_bytes_is_found_even_if_it_is_well_formed(folder, name, change):
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(change(before))
    assert (folder / name).read_bytes() != before
    assert check(folder) == [f"{folder / name}: altered or damaged: not the bytes that manifest.json names"]


def test_one_bit_of_the_weights_is_found(folder):
    weights = np.lib.format.open_memmap(folder / "weights.npy", mode="r+")
    weights.view(np.uint32)[7, 11] ^= 1
    weights.flush()
    assert check(folder) == [f"{folder / 'weights.npy'}: altered or damaged: not the bytes that manifest.json names"]


def test_every_altered_byte_of_the_manifest_is_found(folder):
    text = (folder / "manifest.json").read_text()
    for place in [match.start() for match in re.finditer(r"[0-9a-z]", text)][::97]:
        altered = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
        (folder / "manifest.json").write_text(altered)
        (problem,) = check(folder)
        assert "manifest.json: altered or damaged" in problem


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"networks": 10}, "manifest.json: `networks` is 10, but the files have 11"),
        ({"diverged": None}, "manifest.json: `diverged` is None, but the files have 1"),
        ({"format": "cnnzoo-collection-9"}, "of the format 'cnnzoo-collection-9', this version of cnnzoo knows"),
        ({"trainings": [{"engine": "x"}]}, "manifest.json: altered or damaged"),
        ({"files": {}}, "weights.npy: manifest.json does not name it"),
    ],
)
def test_a_manifest_that_says_something_else_is_found(folder, changed, said):
    reseal(folder, **changed)
    assert any(said in problem for problem in check(folder))


def test_a_file_that_it_names_and_that_is_gone_is_found(folder):
    (folder / "diverged.csv").unlink()
    assert f"{folder / 'diverged.csv'}: not there, but manifest.json names it" in check_readable(folder)[0]


def test_a_collection_of_an_earlier_version_and_a_file_from_elsewhere_are_no_faults(folder):
    (folder / "manifest.json").unlink()
    assert check(folder) == []
    (folder / "diverged.csv").unlink()
    (folder / "manifest.json").write_text('{"manifest_version": 3}')
    assert check_readable(folder)[0] == []
    (folder / "diverged.csv").write_text("")
    with pytest.raises(CnnzooError, match=r"manifest\.json: altered or damaged"):
        read_trainings(folder)


def test_the_data_card_says_it_for_people_and_its_examples_run(made, monkeypatch):
    text = (made / "README.md").read_text()
    assert "- 11 networks; 1 more diverged and stand in `diverged.csv`\n- 99 checkpoints, 4,970 parameters each" in text
    assert "split by network: 5 train, 6 test" in text
    assert re.search(r"- 12 trained by the \w+ engine of cnnzoo \(arithmetic .+\) with minibatches of \d+ images", text)
    median = Collection.open(made).metrics.iloc[Collection.open(made).final()]["test_accuracy"].median()
    assert re.search(rf"\| test_accuracy \| [^|]+ \| [^|]+ \| {median:.3f} \|", text)
    monkeypatch.chdir(made)
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(example, names)
    assert np.shape(names["weights"]) == (99, 4970)
    expected = Collection.open(made).final("train")
    assert sorted(names["train"]) == expected.tolist()
    assert len(names["data"]) == 5


def test_both_are_a_function_of_the_collection(folder, made):
    (folder / "README.md").unlink()
    (folder / "manifest.json").unlink()
    describe(folder, made.name, read_trainings(made))
    for name in ("README.md", "manifest.json"):
        assert (folder / name).read_bytes() == (made / name).read_bytes()


def test_a_collection_without_a_list_of_diverged_networks_does_not_claim_that_none_did(folder):
    (folder / "diverged.csv").unlink()
    facts = Facts.of(Collection.open(folder), "x")
    write_manifest(folder, facts, [])
    assert (facts.diverged, manifest(folder)["diverged"]) == (None, None)
    assert "diverged" not in collection_card(facts, []).partition("## Files")[0]
    assert check_readable(folder)[0] == []


def test_few_values_are_listed_and_many_are_a_range(made):
    facts = Facts.of(Collection.open(made), made.name)
    assert facts.hyperparameters["epochs"] == {"values": [86]}
    assert len(facts.hyperparameters["train_fraction"]["values"]) >= 2
    assert pd.Series(facts.hyperparameters["l2reg"]).index.tolist() == ["lowest", "highest"]
