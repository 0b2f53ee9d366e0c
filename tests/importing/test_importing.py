"""`import-zoo`: archives and folders in the published format become collections; bad ones change nothing."""

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from builders import COLLECTION, SEED, make_collection, make_recipes, make_shards
from cnnzoo import config
from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.features import write_features
from cnnzoo.importing import import_zoo, staging
from cnnzoo.importing import source as sources
from cnnzoo.search.sample import read_sample
from cnnzoo.zoo import Collection, assemble, check
from zoos import PARAMS, STATISTICS

NETWORKS = 12
ENDINGS = {".tar": "w", ".tar.gz": "w:gz", ".tar.xz": "w:xz", ".tar.bz2": "w:bz2"}


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """A folder as others publish it: three files, other names of networks, steps as floats."""
    folder = make_collection(tmp_path_factory.mktemp("others"), networks=NETWORKS)
    metrics = pd.read_csv(folder / "metrics.csv.gz", index_col=0)
    metrics["modeldir"] = "/cell/home/user/" + metrics["modeldir"].str.replace("tiny/", "1234")
    metrics["step"] = metrics["step"].astype(float)
    metrics["config.dataset"] = "fashion_mnist"
    metrics.to_csv(folder / "metrics.csv.gz", compression={"method": "gzip", "mtime": 1_580_000_000})
    for name in ("split.csv", "diverged.csv", "manifest.json", "README.md"):
        (folder / name).unlink()
    return folder


@pytest.fixture
def artifacts(tmp_path) -> Artifacts:
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(PARAMS, root / "params.yaml")
    return Artifacts(root)


def pack(folder: Path, path: Path, extra: tuple[tarfile.TarInfo, ...] = (), names: tuple[str, ...] = ()) -> Path:
    """Write an archive of one folder, as published; `names` are the files taken, `extra` entries come last."""
    ending = "".join(path.suffixes)
    with tarfile.open(path, ENDINGS[ending]) as archive:
        for name in names or sorted(file.name for file in folder.iterdir()):
            archive.add(folder / name, arcname=f"fashion/{name}")
        for entry in extra:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def refused(artifacts: Artifacts, source: Path, *words: str, **options: str) -> str:
    """Import what must fail with a message that holds `words`; nothing may have changed."""
    before = artifacts.params.read_bytes()
    zoo = artifacts.root / "data" / "zoo"
    there = {path.name for path in zoo.glob("[!.]*")}
    with pytest.raises(CnnzooError) as fault:
        import_zoo(artifacts, source, **options)
    assert artifacts.params.read_bytes() == before
    assert {path.name for path in zoo.glob("[!.]*")} == there
    assert [word for word in words if word not in str(fault.value)] == []
    return str(fault.value)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_archive_becomes_a_collection_byte_for_byte(ending, published, artifacts, tmp_path):
    done = import_zoo(artifacts, pack(published, tmp_path / f"others{ending}"))
    assert (done.name, done.dataset, done.networks, done.checkpoints) == ("others", "fashion_mnist", 12, 108)
    for name in ("weights.npy", "metrics.csv.gz", "layout.csv"):
        assert (done.folder / name).read_bytes() == (published / name).read_bytes()
    assert {path.name for path in done.folder.iterdir()} == {
        *("weights.npy", "metrics.csv.gz", "layout.csv", "split.csv", "manifest.json", "README.md")
    }
    assert list(done.folder.parent.iterdir()) == [done.folder]
    assert check(done.folder) == []


def test_a_folder_becomes_a_collection_and_stays(published, artifacts):
    done = import_zoo(artifacts, published, name="others", dataset="cifar10")
    assert config.load(artifacts.params).imported == {"others": config.Imported(dataset="cifar10")}
    assert (done.folder / "weights.npy").read_bytes() == (published / "weights.npy").read_bytes()


def test_later_stages_work_on_an_imported_collection(published, artifacts):
    done = import_zoo(artifacts, published, name="others")
    zoo = Collection.open(done.folder)
    write_features(zoo, [STATISTICS], artifacts.features("others"))
    halves = [read_sample(artifacts, zoo, "others", STATISTICS, half) for half in ("train", "test")]
    assert [len(half.target) for half in halves] == [6, 6]
    networks = [set(zoo.networks[zoo.final(half)]) for half in ("train", "test")]
    assert not networks[0] & networks[1]


@pytest.mark.parametrize("times", [1, 2])
def test_params_gain_the_collections_and_lose_nothing(times, published, artifacts):
    names = ["others", "more"][:times]
    for name in names:
        import_zoo(artifacts, published, name=name)
    entries = "".join(f"\n  {name}: {{dataset: fashion_mnist}}" for name in names)
    expected = PARAMS.read_text().replace("imported: {}", f"imported:{entries}")
    listed = ", ".join(["mnist5k", *names])
    assert artifacts.params.read_text() == expected.replace("collections: [mnist5k]", f"collections: [{listed}]")


def test_another_architecture_is_read_from_the_layout(artifacts, tmp_path):
    recipes = make_recipes(4, num_units=8, num_layers=2)
    assemble(make_shards(tmp_path / "shards", recipes), recipes, COLLECTION, tmp_path / "small", SEED)
    folder = tmp_path / "small"
    refused(artifacts, folder, "wstats-layers", name="small")  # the feature sets of params.yaml want four layers
    params = artifacts.params.read_text().replace("wstats-layers:0,1,2,3-", "wstats-layers:0,2-")
    artifacts.params.write_text(params)
    import_zoo(artifacts, folder, name="small")
    expected = config.Imported(dataset="mnist5k", num_units=8, num_layers=2)
    assert config.load(artifacts.params).imported["small"] == expected


def test_the_split_is_the_archives_own_if_there_is_one(artifacts, tmp_path):
    folder = make_collection(tmp_path / "ours", networks=4)
    done = import_zoo(artifacts, pack(folder, tmp_path / "ours.tar.gz"))
    assert (done.folder / "split.csv").read_bytes() == (folder / "split.csv").read_bytes()
    assert (done.folder / "diverged.csv").read_bytes() == (folder / "diverged.csv").read_bytes()


@pytest.mark.parametrize("name", ["others", "more"])
def test_a_drawn_split_is_that_of_a_collection_made_here(name, published, artifacts, tmp_path):
    """The project's seed and the collection's name draw it, as stage `assemble` does."""
    recipes = make_recipes(NETWORKS)
    seed = config.load(artifacts.params).seed
    made = tmp_path / "made"
    assemble(make_shards(tmp_path / "shards", recipes), recipes, name, made, seed)
    done = import_zoo(artifacts, published, name=name)
    assert (done.folder / "split.csv").read_bytes() == (made / "split.csv").read_bytes()
    assert seed != SEED


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(255 - value for value in data[middle : middle + 64]) + data[middle + 64 :]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("ending", [".tar.gz", ".tar.xz", ".tar.bz2"])
def test_damaged_archives_are_refused(damage, ending, published, artifacts, tmp_path):
    path = pack(published, tmp_path / f"others{ending}")
    path.write_bytes(damage(path.read_bytes()))
    refused(artifacts, path, str(path), "Download it again")


def test_a_flipped_checksum_of_gzip_is_seen(published, artifacts, tmp_path):
    path = pack(published, tmp_path / "others.tar.gz")
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    refused(artifacts, path, "CRC", "Download it again")


def test_a_truncated_plain_tar_is_refused(published, artifacts, tmp_path):
    path = pack(published, tmp_path / "others.tar")
    path.write_bytes(cut(path.read_bytes()))
    refused(artifacts, path, str(path), "Download it again")


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, b"\x1f\x8b" + bytes(2000)])
def test_what_is_no_archive_is_refused(content, artifacts, tmp_path):
    path = tmp_path / "others.tar.xz"
    path.write_bytes(content)
    refused(artifacts, path, str(path), "not a whole tar archive")


def sparse_entry(headers: dict[str, str]) -> tarfile.TarInfo:
    info = entry("fashion/old", size=1024)
    info.pax_headers = headers
    return info


UNSAFE = [
    (entry("../weights.npy"), "leads out"),
    (entry("/etc/weights.npy"), "leads out"),
    (entry("fashion/../../x"), "leads out"),
    (entry("fashion/link", tarfile.SYMTYPE, "/etc/passwd"), "link to `/etc/passwd`"),
    (entry("fashion/split.csv", tarfile.LNKTYPE, "fashion/weights.npy"), "link to"),
    (entry("fashion/null", tarfile.CHRTYPE), "neither a plain file"),
    (entry("fashion/pipe", tarfile.FIFOTYPE), "neither a plain file"),
    (entry("fashion/old/weights.npy", size=3), "`weights.npy` twice"),
    (entry("./fashion/layout.csv"), "`layout.csv` twice"),
    (entry("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=1 << 20), "claims a name of 1048576 bytes"),
    (entry("pax", tarfile.XHDTYPE, size=1 << 20), "claims a name of 1048576 bytes"),
    (sparse_entry({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), "is a sparse file"),
    (sparse_entry({"GNU.sparse.map": "0,1"}), "is a sparse file"),
    (sparse_entry({"GNU.sparse.size": "zz"}), "not a whole tar archive"),
    (entry("fashion/split.csv", tarfile.GNUTYPE_SPARSE), "`fashion/split.csv` is a sparse file"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "words"), UNSAFE, ids=lambda value: getattr(value, "name", None))
def test_unsafe_archives_are_refused(extra, words, published, artifacts, tmp_path):
    refused(artifacts, pack(published, tmp_path / "others.tar.gz", (extra,)), words, "others.tar.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["others.tar.gz", "project"]


def test_absurd_sizes_are_refused_before_the_copy(published, artifacts, tmp_path, monkeypatch):
    monkeypatch.setitem(sources.MOST_BYTES, "weights.npy", 1000)
    refused(artifacts, pack(published, tmp_path / "others.tar"), "`weights.npy` has", "at most")


def replaced(published: Path, folder: Path, name: str, content: object) -> Path:
    """Copy the published folder with another file in it (None: without)."""
    shutil.copytree(published, folder)
    if content is None:
        (folder / name).unlink()
    elif isinstance(content, np.ndarray):
        np.save(folder / name, content, allow_pickle=True)
    else:
        (folder / name).write_bytes(content)
    return folder


def weights_with(published: Path, row: int, value: float) -> np.ndarray:
    weights = np.load(published / "weights.npy")
    weights[row, 17] = value
    return weights


FAULTY = {
    "pickle": ("weights.npy", lambda _: np.array([{"a": 1}, None], dtype=object), ["pickled Python objects"]),
    "integers": ("weights.npy", lambda _: np.zeros((108, 4970), "<i8"), ["must be floating point", "<i8"]),
    "one-dimensional": ("weights.npy", lambda _: np.zeros(4970, "<f4"), ["must be floating point", "(4970,)"]),
    "rows": ("weights.npy", lambda _: np.zeros((99, 4970), "<f4"), ["(99, 4970)", "has 108 rows"]),
    "columns": ("weights.npy", lambda _: np.zeros((108, 4971), "<f4"), ["(108, 4971)", "4970 parameters"]),
    "no columns": ("weights.npy", lambda _: np.zeros((10**6, 0), "<f4"), ["must be floating point", "(1000000, 0)"]),
    "header": (
        "weights.npy",
        lambda _: b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2" + b" " * 60 + b"\n",
        ["not a .npy file"],
    ),
    "infinite shape": (
        "layout.csv",
        lambda folder: (folder / "layout.csv").read_bytes().replace(b'"(16,)"', b'"(1e400,)"'),
        ["layout.csv, line 2", "tuple"],
    ),
    "not numpy": ("weights.npy", lambda _: b"weights", ["not a .npy file"]),
    "short": ("weights.npy", lambda folder: (folder / "weights.npy").read_bytes()[:-4], ["its header announces"]),
    "nan": ("weights.npy", lambda folder: weights_with(folder, 8, np.nan), ["row 8", "not finite"]),
    "no weights": ("weights.npy", lambda _: None, ["holds no weights.npy"]),
    "no metrics": ("metrics.csv.gz", lambda _: None, ["holds no metrics.csv.gz"]),
    "bad metrics": ("metrics.csv.gz", lambda folder: flip((folder / "metrics.csv.gz").read_bytes()), ["not a whole"]),
    "no layout": ("layout.csv", lambda _: None, ["holds no layout.csv"]),
    "layout": ("layout.csv", lambda folder: (folder / "layout.csv").read_bytes().replace(b"160", b"161"), ["line 3"]),
    "metrics bomb": ("metrics.csv.gz", lambda _: gzip.compress(bytes(10**6)), ["unpacks to more than 223,232 bytes"]),
    "long field": ("layout.csv", lambda _: b"a" * 200_000, ["layout.csv", "field larger than"]),
    "split": ("split.csv", lambda _: b"0\n0\n1\n", ["split.csv", "3 lines"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FAULTY)
@pytest.mark.parametrize("packed", [True, False])
def test_faulty_files_are_refused_and_named(case, packed, published, artifacts, tmp_path):
    name, content, words = FAULTY[case]
    folder = replaced(published, tmp_path / "others", name, content(published))
    source = pack(folder, tmp_path / "others.tar") if packed else folder
    message = refused(artifacts, source, *words)
    assert str(source) in message or "project" in message
    assert list((artifacts.root / "data" / "zoo").iterdir()) == []


def test_weights_may_lack_finite_values_before_the_last_epoch(published, artifacts, tmp_path):
    folder = replaced(published, tmp_path / "others", "weights.npy", weights_with(published, 3, np.inf))
    assert import_zoo(artifacts, folder).networks == NETWORKS


def test_unknown_data_sets_are_refused_and_can_be_given(published, artifacts, tmp_path):
    metrics = pd.read_csv(published / "metrics.csv.gz", index_col=0)
    metrics["config.dataset"] = "imagenet"
    folder = shutil.copytree(published, tmp_path / "others")
    metrics.to_csv(folder / "metrics.csv.gz")
    refused(artifacts, folder, "`imagenet`", "--dataset", "svhn_cropped")
    refused(artifacts, folder, "`coco`", "--dataset", "svhn_cropped", dataset="coco")
    assert import_zoo(artifacts, folder, dataset="mnist").dataset == "mnist"


def test_metrics_that_name_two_data_sets_tell_none(published, artifacts, tmp_path):
    metrics = pd.read_csv(published / "metrics.csv.gz", index_col=0)
    metrics.loc[metrics.index[-9:], "config.dataset"] = "mnist"
    folder = shutil.copytree(published, tmp_path / "others")
    metrics.to_csv(folder / "metrics.csv.gz")
    refused(artifacts, folder, "`fashion_mnist, mnist`", "--dataset")
    assert import_zoo(artifacts, folder, dataset="mnist").dataset == "mnist"


def test_a_name_that_is_a_data_set_tells_it(published, artifacts):
    assert import_zoo(artifacts, published, name="mnist").dataset == "mnist"


@pytest.mark.parametrize("name", ["Others", "_x", "a-b", "", "../x", "a/b"])
def test_names_that_no_collection_can_have_are_refused(name, published, artifacts):
    refused(artifacts, published, f"`{name}`", "--name", name=name)


def test_taken_names_are_refused_before_any_work(published, artifacts, monkeypatch):
    import_zoo(artifacts, published, name="others")
    monkeypatch.setattr(sources, "members", None)
    refused(artifacts, published, "`populations`", "--name", name="mnist5k")
    refused(artifacts, published, "already", "--name", name="others")
    refused(artifacts, Path("nowhere.tar.xz"), "nowhere.tar.xz: no such file")


def test_a_folder_of_that_name_is_refused_though_params_do_not_define_it(published, artifacts):
    artifacts.zoo("others").mkdir(parents=True)
    (artifacts.zoo("others") / "weights.npy").write_bytes(b"of somebody")
    refused(artifacts, published, "already", "--name", name="others")
    assert (artifacts.zoo("others") / "weights.npy").read_bytes() == b"of somebody"
    assert [path.name for path in artifacts.zoo("others").parent.iterdir()] == ["others"]


def test_a_fault_of_the_last_step_leaves_no_collection_and_params_as_they_were(published, artifacts, monkeypatch):
    """params.yaml cannot be written: neither it nor the folder may tell of a collection. The next import succeeds."""
    before = artifacts.params.read_bytes()
    rename = Path.replace

    def fail_for_params(source, target):
        if Path(target).name == "params.yaml":
            raise OSError(30, "Read-only file system", str(target))
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail_for_params)
        with pytest.raises(OSError, match="Read-only"):
            import_zoo(artifacts, published, name="others")
    assert artifacts.params.read_bytes() == before
    assert not artifacts.zoo("others").exists()
    assert import_zoo(artifacts, published, name="others").networks == NETWORKS
    assert check(artifacts.zoo("others")) == []


def test_a_defined_collection_without_files_is_filled_and_must_agree(published, artifacts):
    import_zoo(artifacts, published, name="others", dataset="cifar10")
    params = artifacts.params.read_bytes()
    shutil.rmtree(artifacts.zoo("others"))
    refused(artifacts, published, "`imported.others`", "cifar10", name="others", dataset="mnist")
    assert import_zoo(artifacts, published, name="others").dataset == "cifar10"
    assert artifacts.params.read_bytes() == params


@pytest.mark.slow
def test_a_killed_import_goes_on_without_the_finished_files(published, artifacts, tmp_path, monkeypatch):
    path = pack(published, tmp_path / "others.tar.xz", names=("weights.npy", "metrics.csv.gz", "layout.csv"))
    copied = []
    copy = staging._copy

    def killed_at_the_second(member, *rest):
        if copied:
            (artifacts.zoo(".importing-others") / member.name).write_bytes(next(member.chunks)[:100])
            raise KeyboardInterrupt
        copied.append(member.name)
        return copy(member, *rest)

    monkeypatch.setattr(staging, "_copy", killed_at_the_second)
    before = artifacts.params.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        import_zoo(artifacts, path)
    assert artifacts.params.read_bytes() == before
    assert not artifacts.zoo("others").exists()

    again = []
    monkeypatch.setattr(staging, "_copy", lambda member, *rest: again.append(member.name) or copy(member, *rest))
    done = import_zoo(artifacts, path)
    assert (copied, again) == (["weights.npy"], ["metrics.csv.gz", "layout.csv"])
    for name in ("weights.npy", "metrics.csv.gz", "layout.csv"):
        assert (done.folder / name).read_bytes() == (published / name).read_bytes()


def interrupted(artifacts: Artifacts, source: Path, monkeypatch) -> None:
    """Import until everything is copied, then be killed."""

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(config, "add_imported", kill)
        with pytest.raises(KeyboardInterrupt):
            import_zoo(artifacts, source, name="others")


def recopied(artifacts: Artifacts, source: Path, monkeypatch) -> set[str]:
    """Import again; return the files that were copied again."""
    again, copy = set(), staging._copy
    monkeypatch.setattr(staging, "_copy", lambda member, *rest: again.add(member.name) or copy(member, *rest))
    import_zoo(artifacts, source, name="others")
    return again


@pytest.mark.slow
def test_copied_files_are_taken_up_without_opening_the_archive(published, artifacts, tmp_path, monkeypatch):
    path = pack(published, tmp_path / "others.tar.xz")
    interrupted(artifacts, path, monkeypatch)
    monkeypatch.setattr(tarfile, "open", None)
    assert recopied(artifacts, path, monkeypatch) == set()


@pytest.mark.slow
def test_a_finished_file_that_changed_is_copied_again(published, artifacts, tmp_path, monkeypatch):
    path = pack(published, tmp_path / "others.tar.xz")
    interrupted(artifacts, path, monkeypatch)
    copied = artifacts.zoo(".importing-others") / "weights.npy"
    copied.write_bytes(flip(copied.read_bytes()))
    assert recopied(artifacts, path, monkeypatch) == {"weights.npy"}
    assert (artifacts.zoo("others") / "weights.npy").read_bytes() == (published / "weights.npy").read_bytes()


@pytest.mark.slow
def test_another_archive_starts_again(published, artifacts, tmp_path, monkeypatch):
    path = pack(published, tmp_path / "others.tar.xz")
    interrupted(artifacts, path, monkeypatch)
    os.utime(path, (1, 1))
    assert recopied(artifacts, path, monkeypatch) == {"weights.npy", "metrics.csv.gz", "layout.csv"}


def test_a_full_disk_is_told_and_keeps_what_is_finished(published, artifacts, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    path = pack(published, tmp_path / "others.tar", names=("layout.csv", "metrics.csv.gz", "weights.npy"))
    result = CliRunner().invoke(app, ["import-zoo", str(path), "--root", str(artifacts.root)])
    assert result.exit_code == 1
    assert "0.00 GB are free" in result.stderr
    monkeypatch.undo()
    assert recopied(artifacts, path, monkeypatch) == {"weights.npy"}


@pytest.mark.slow
def test_the_command_tells_what_is_next(published, artifacts, tmp_path):
    path = pack(published, tmp_path / "others.tar.xz")
    arguments = ["import-zoo", str(path), "--name", "abroad", "--dataset", "mnist", "--root", str(artifacts.root)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "12 networks" in result.output
    assert "dvc repro" in result.output
    assert "dvc add" in result.output
    assert config.load(artifacts.params).imported["abroad"].dataset == "mnist"


def test_a_manifest_of_another_kind_is_left_behind(published, artifacts, tmp_path):
    folder = Path(shutil.copytree(published, tmp_path / "theirs"))
    (folder / "manifest.json").write_text('{"manifest_version": 3}')
    done = import_zoo(artifacts, folder)
    assert check(done.folder) == []
    assert json.loads((done.folder / "manifest.json").read_text())["name"] == "theirs"
