"""Zoos as people have them: every harmless quirk is read, the same networks come out, and what differs is said."""

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from typer.testing import CliRunner

from builders import make_collection
from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.importing import import_zoo
from cnnzoo.zoo import Collection, check, check_readable
from cnnzoo.zoo.lenient import Readable
from zoos import PARAMS

NETWORKS, ROWS = 6, 54
ORDER = np.random.default_rng(1).permutation(ROWS)
SPLIT = "".join(f"{row}\n" for row in ORDER)


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    return make_collection(tmp_path_factory.mktemp("ours"), networks=NETWORKS)


class Parts:
    """The parts of a collection as others have it, to be changed before they are written."""

    def __init__(self, folder: Path) -> None:
        self.weights = np.load(folder / "weights.npy")
        self.metrics = pd.read_csv(folder / "metrics.csv.gz", index_col=0)
        self.layout = (folder / "layout.csv").read_bytes()
        self.text: str | None = None
        self.others: dict[str, str] = {}
        self.metrics["modeldir"] = [f"/runs/mnist/{row // 9:05d}" for row in range(ROWS)]
        steps = self.metrics["step"]
        self.metrics.index = [f"{name}/ckpt-{step}" for name, step in zip(self.metrics["modeldir"], steps, strict=True)]

    def keep(self, rows: np.ndarray) -> None:
        self.weights, self.metrics = self.weights[rows], self.metrics.iloc[rows]

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        np.save(folder / "weights.npy", self.weights)
        (folder / "layout.csv").write_bytes(self.layout)
        text = self.metrics.to_csv() if self.text is None else self.text
        (folder / "metrics.csv.gz").write_bytes(gzip.compress(text.encode()))
        for name, content in self.others.items():
            (folder / name).write_text(content)
        return folder


def assign(name: str, value: object) -> Callable[[Parts], None]:
    return lambda parts: setattr(parts, "metrics", parts.metrics.assign(**{name: value}))


def drop_index_names(parts: Parts) -> None:
    parts.text = parts.metrics.to_csv(index=False)


def shuffle(parts: Parts) -> None:
    parts.keep(ORDER)


def without_modeldir(parts: Parts) -> None:
    parts.metrics["modeldir"] = ""


def layout_with_index(parts: Parts) -> None:
    table = pd.read_csv(io.BytesIO(parts.layout))
    parts.layout = table[table.columns[::-1]].to_csv().encode()


def set_text(make: Callable[[pd.DataFrame], str]) -> Callable[[Parts], None]:
    return lambda parts: setattr(parts, "text", make(parts.metrics))


def set_weights(make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Parts], None]:
    return lambda parts: setattr(parts, "weights", make(parts.weights))


def set_layout(make: Callable[[bytes], bytes]) -> Callable[[Parts], None]:
    return lambda parts: setattr(parts, "layout", make(parts.layout))


QUIRKS: dict[str, tuple[Callable[[Parts], object], str]] = {
    "nothing": (lambda parts: None, ""),
    "layout with a byte-order mark": (set_layout(lambda text: b"\xef\xbb\xbf" + text), "layout.csv written again"),
    "layout with blank lines": (set_layout(lambda text: text + b"\n\n"), "layout.csv written again"),
    "layout with carriage returns": (set_layout(lambda text: text.replace(b"\n", b"\r\n")), "layout.csv written again"),
    "layout with an index, columns reversed": (layout_with_index, "layout.csv written again"),
    "index named": (set_text(lambda m: m.reset_index(names="Unnamed: 0").to_csv(index=False)), "had `Unnamed: 0`"),
    "index twice": (set_text(lambda m: m.reset_index(names="Unnamed: 0").to_csv()), "had `` and `Unnamed: 0`"),
    "no index": (drop_index_names, "one unnamed index column first (it had none)"),
    "metrics with a mark": (set_text(lambda m: "\ufeff" + m.to_csv()), ""),
    "metrics with blank lines": (set_text(lambda m: m.to_csv() + "\n\n"), ""),
    "metrics with carriage returns": (set_text(lambda m: m.to_csv(lineterminator="\r\n")), ""),
    "no laststep": (set_text(lambda m: m.drop(columns="laststep").to_csv()), "`laststep` is True at the last step"),
    "laststep in capitals": (
        set_text(lambda m: m.assign(laststep=m["laststep"].astype(str).str.upper()).to_csv()),
        "`laststep` written as True and False",
    ),
    "laststep in numbers": (
        set_text(lambda m: m.assign(laststep=m["laststep"].astype(int)).to_csv()),
        "`laststep` written as True and False",
    ),
    "steps as floats": (set_text(lambda m: m.assign(step=m["step"].astype(float)).to_csv()), ""),
    "one more column": (assign("sweep", "a1"), "left out `sweep`"),
    "columns in another order": (
        set_text(lambda m: m[sorted(m.columns, reverse=True)].to_csv()),
        "columns put in the published order",
    ),
    "modeldir empty": (without_modeldir, "`modeldir` taken from the index"),
    "rows in another order": (shuffle, "rows put in order"),
    "float64": (set_weights(lambda w: w.astype(np.float64)), "converted from <f8 to float32"),
    "big-endian": (set_weights(lambda w: w.astype(">f4")), "converted from >f4 to float32"),
    "Fortran order": (set_weights(np.asfortranarray), "stored in C order instead of Fortran order"),
}


def project(tmp_path: Path) -> Artifacts:
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(PARAMS, root / "params.yaml")
    return Artifacts(root)


def imported(source: Path, tmp_path: Path) -> Collection:
    return Collection.open(import_zoo(project(tmp_path), source, "theirs", "mnist").folder)


def final_of(zoo: Collection) -> dict[str, tuple[bytes, float, str]]:
    """What loaders take of each network: its final weights, accuracy and activation."""
    rows = zoo.final()
    columns = ("modeldir", "test_accuracy", "config.activation")
    names, accuracy, activation = (zoo.metrics[name].to_numpy()[rows] for name in columns)
    return {
        name: (zoo.weights[row].tobytes(), float(score), str(kind))
        for name, row, score, kind in zip(names, rows, accuracy, activation, strict=True)
    }


@pytest.fixture(scope="module")
def expected(ours) -> dict[str, tuple[bytes, float, str]]:
    found = final_of(Collection.open(ours))
    return {f"/runs/mnist/{place:05d}": value for place, value in enumerate(found.values())}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_a_harmless_quirk_is_read_and_said(ours, expected, tmp_path, capsys, quirk):
    change, says = QUIRKS[quirk]
    parts = Parts(ours)
    change(parts)
    folder = parts.write(tmp_path / "theirs")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    problems, changes = check_readable(folder)
    assert problems == []
    assert any(says in change for change in changes) or (not says and changes == [])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    zoo = imported(folder, tmp_path)
    assert final_of(zoo) == expected
    assert check(zoo.path) == []
    assert len(zoo.final("train")) == NETWORKS // 2
    assert says in capsys.readouterr().err
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 0
    assert "readable" in result.stdout
    assert says in result.stdout


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (assign("laststep", "maybe"), False),
        (drop_index_names, False),
        (set_weights(lambda weights: weights.astype(np.float64)), True),
        (shuffle, True),
    ],
)
def test_the_matrix_is_written_again_only_if_it_differs(ours, tmp_path, change, again):
    parts = Parts(ours)
    change(parts)
    folder = parts.write(tmp_path / "theirs")
    before = {name: (folder / name).stat().st_ino for name in ("weights.npy", "metrics.csv.gz")}
    found = Readable.of(folder)
    assert found.changes
    found.write(folder)
    after = {name: (folder / name).stat().st_ino for name in before}
    assert (after["weights.npy"] != before["weights.npy"]) is again
    assert after["metrics.csv.gz"] != before["metrics.csv.gz"]
    assert np.load(folder / "weights.npy").dtype == np.float32


@pytest.mark.parametrize("name", ["split.csv", "mnist_split.csv", "fashion-split.csv"])
@pytest.mark.parametrize("first", ["", "0\n"])
def test_a_split_that_is_there_is_used(ours, tmp_path, name, first):
    parts = Parts(ours)
    parts.others[name] = first + SPLIT
    zoo = imported(parts.write(tmp_path / "theirs"), tmp_path)
    final = [row for row in ORDER if row in set(zoo.final())]
    assert sorted(final[: NETWORKS // 2]) == zoo.final("train").tolist()


def test_a_split_follows_rows_that_are_put_in_order(ours, tmp_path):
    """Row numbers of the split are those of the file as it was."""
    parts = Parts(ours)
    names = parts.metrics["modeldir"].to_numpy()
    is_final = (parts.metrics["step"] == 86).to_numpy()
    order = np.random.default_rng(5).permutation(ROWS)
    split = np.random.default_rng(6).permutation(ROWS)
    parts.keep(order)
    parts.others["split.csv"] = "".join(f"{row}\n" for row in split)
    zoo = imported(parts.write(tmp_path / "theirs"), tmp_path)
    wanted = [names[order[row]] for row in split if is_final[order[row]]][: NETWORKS // 2]
    assert sorted(zoo.metrics["modeldir"].iloc[zoo.final("train")]) == sorted(wanted)


def test_final_checkpoints_alone_and_missing_ones_are_enough(ours, expected, tmp_path):
    for name, kept in (
        ("final", lambda steps: steps == 86),
        ("lacking", lambda steps: (steps != 40) | (np.arange(ROWS) > 20)),
    ):
        parts = Parts(ours)
        parts.keep(np.flatnonzero(kept(parts.metrics["step"].to_numpy())))
        (tmp_path / name).mkdir()
        assert final_of(imported(parts.write(tmp_path / name / "theirs"), tmp_path / name)) == expected


def test_a_copy_of_the_three_published_files_of_ours_is_a_collection(ours, tmp_path):
    """Also if gzip has packed the metrics again, with a time and a name in its header."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("weights.npy", "layout.csv"):
        shutil.copy(ours / name, folder)
    text = gzip.decompress((ours / "metrics.csv.gz").read_bytes())
    with gzip.GzipFile(
        "metrics.csv", "wb", fileobj=(folder / "metrics.csv.gz").open("wb"), mtime=1_600_000_000
    ) as file:
        file.write(text)
    zoo = imported(folder, tmp_path)
    assert final_of(zoo) == final_of(Collection.open(ours))


CONTRADICTIONS: dict[str, tuple[Callable[[Parts], object], str]] = {
    "no accuracy": (set_text(lambda m: m.drop(columns="test_accuracy").to_csv()), "no column test_accuracy"),
    "a column twice": (
        set_text(lambda m: pd.concat([m, m["step"]], axis=1).to_csv()),
        "has the column step twice; leave out the one that is wrong",
    ),
    "a step twice": (assign("step", 86), "has step 86 twice"),
    "no step": (assign("step", "last"), "`step` must be the epoch"),
    "no names": (
        lambda parts: setattr(parts, "text", parts.metrics.assign(modeldir="").to_csv(index=False)),
        "line 2 names no network",
    ),
    "other rows": (set_weights(lambda w: w[:-1]), "not of one collection"),
    "integers": (set_weights(lambda w: w.astype(np.int32)), "must be floating point"),
    "layout without sizes": (set_layout(lambda text: text.replace(b"size", b"length")), "no column size"),
    "layout with a word for a size": (set_layout(lambda text: text.replace(b",16,", b",x,", 1)), "line 2"),
    "activation unknown": (assign("config.activation", "gelu"), "`config.activation` is 'gelu'"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_is_missing_or_contradictory_is_refused(ours, tmp_path, name):
    change, says = CONTRADICTIONS[name]
    parts = Parts(ours)
    change(parts)
    folder = parts.write(tmp_path / "theirs")
    problems, _ = check_readable(folder)
    assert any(says in problem for problem in problems), problems
    with pytest.raises(CnnzooError) as refused:
        imported(folder, tmp_path)
    assert says in str(refused.value)
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 1
    assert says in result.stderr


def test_a_split_that_is_no_permutation_is_refused(ours, tmp_path):
    parts = Parts(ours)
    parts.others["mnist_split.csv"] = "0\n0\n1\n"
    with pytest.raises(CnnzooError, match=r"split\.csv: 3 lines, the matrix has 54 rows"):
        imported(parts.write(tmp_path / "theirs"), tmp_path)


def pack_zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"mnist/{file.name}")


def pack_tar(folder: Path, path: Path, prefix: str = "") -> None:
    with tarfile.open(path, "w") as archive:
        for file in folder.iterdir():
            archive.add(file, prefix + file.name)


def pack_zstd(folder: Path, path: Path) -> None:
    pack_tar(folder, path.with_suffix(""), "mnist/")
    with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
        file.write(path.with_suffix("").read_bytes())


PACKERS = {"mnist.zip": pack_zip, "flat.tar": pack_tar, "mnist.tar.zst": pack_zstd}


@pytest.mark.parametrize("name", PACKERS)
def test_archives_of_other_kinds_are_read(ours, expected, tmp_path, name):
    PACKERS[name](Parts(ours).write(tmp_path / "theirs"), tmp_path / name)
    assert final_of(imported(tmp_path / name, tmp_path)) == expected


@pytest.mark.parametrize("name", PACKERS)
def test_damaged_archives_of_other_kinds_are_refused(ours, tmp_path, name):
    PACKERS[name](Parts(ours).write(tmp_path / "theirs"), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CnnzooError, match=r"archive|ends after"):
        imported(tmp_path / name, tmp_path)


def test_a_zip_whose_directory_points_before_its_begin_is_damaged(ours, tmp_path):
    source = tmp_path / "mnist.zip"
    pack_zip(Parts(ours).write(tmp_path / "mnist"), source)
    data = bytearray(source.read_bytes())
    end = data.rfind(b"PK\x05\x06")  # the end record; at 16 the offset of the directory
    offset = int.from_bytes(data[end + 16 : end + 20], "little")
    data[end + 16 : end + 20] = (offset + 50).to_bytes(4, "little")
    source.write_bytes(data)
    with pytest.raises(CnnzooError, match=r"mnist\.zip: not a whole tar archive .* or zip archive"):
        imported(source, tmp_path)


@pytest.mark.parametrize("member", ["../weights.npy", "/etc/weights.npy"])
def test_a_zip_that_leads_out_of_its_folder_is_refused(ours, tmp_path, member):
    pack_zip(Parts(ours).write(tmp_path / "theirs"), tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.writestr(member, "x")
    with pytest.raises(CnnzooError, match="leads out of the archive's folder"):
        imported(tmp_path / "x.zip", tmp_path)
