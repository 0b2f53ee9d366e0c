"""A published folder: the collection byte for byte, the same rows in Parquet, true texts, digests, and the way back."""

import hashlib
import json
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from builders import COLLECTION, make_collection
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.importing import import_zoo
from cnnzoo.publishing import Release, publish
from cnnzoo.zoo import Collection
from imports import ROOT

RELEASE = Release(
    ("Ada Lovelace", 'The "zoo" team'), "CC0-1.0", "2.1.0", "https://example.org/zoo", day=date(2026, 11, 27)
)
COPIED = ("weights.npy", "layout.csv", "metrics.csv.gz", "split.csv", "diverged.csv", "manifest.json")
PARQUET = ("data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet")


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    return make_collection(tmp_path_factory.mktemp("published"), diverged={3: 20})


@pytest.fixture(scope="module")
def folder(collection, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("out") / COLLECTION
    done = publish(collection, COLLECTION, target, RELEASE)
    assert (done.folder, done.networks, done.rows) == (target, 11, 99)
    assert set(done.files) == {
        *(*COPIED, *PARQUET, "README.md", "croissant.json", "CITATION.cff", "LICENSE", "SHA256SUMS")
    }
    assert done.size == sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return target


def test_the_files_of_the_collection_are_there_byte_for_byte(collection, folder):
    for name in COPIED:
        assert (folder / name).read_bytes() == (collection / name).read_bytes()


@pytest.mark.parametrize("half", ["train", "test"])
def test_parquet_has_every_row_of_its_half_with_its_weights(collection, folder, half):
    zoo = Collection.open(collection)
    rows = np.sort(np.concatenate([zoo.at(epoch, half) for epoch in zoo.epochs]))
    found = pd.read_parquet(folder / f"data/{half}-00000-of-00001.parquet")
    assert found["row"].tolist() == rows.tolist()
    assert np.stack(found["weights"]).tobytes() == zoo.weights[rows].tobytes()
    assert np.stack(found["weights"]).dtype == np.float32
    expected = zoo.metrics.iloc[rows].rename(columns={"modeldir": "network"}).reset_index(drop=True)
    expected.columns = [name.removeprefix("config.") for name in expected.columns]
    pd.testing.assert_frame_equal(found[list(expected.columns)], expected)
    assert set(found) == {*expected.columns, "row", "weights"}


def test_large_halves_are_several_files_in_order(collection, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnzoo.publishing.parquet.SHARD_ROWS", 20)
    monkeypatch.setattr("cnnzoo.publishing.parquet.GROUP_ROWS", 7)
    publish(collection, COLLECTION, tmp_path / "x", RELEASE)
    zoo = Collection.open(collection)
    for half in ("train", "test"):
        rows = np.sort(np.concatenate([zoo.at(epoch, half) for epoch in zoo.epochs]))
        count = -(-len(rows) // 20)
        names = [f"{half}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
        assert sorted(path.name for path in (tmp_path / "x" / "data").glob(f"{half}-*")) == names
        parts = [pd.read_parquet(tmp_path / "x" / "data" / name) for name in names]
        assert max(map(len, parts)) <= 20
        assert pd.concat(parts)["row"].tolist() == rows.tolist()
        assert np.stack(pd.concat(parts)["weights"]).tobytes() == zoo.weights[rows].tobytes()


def test_every_file_has_its_digest(folder):
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(sums) == files - {"SHA256SUMS"}
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    program = shutil.which("sha256sum")
    if program:
        subprocess.run([program, "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_croissant_names_every_data_file_and_column(collection, folder):
    document = json.loads((folder / "croissant.json").read_text())
    files = {item["contentUrl"]: item["sha256"] for item in document["distribution"] if "contentUrl" in item}
    assert set(files) == {*COPIED, *PARQUET}
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in files.items())
    fields = {field["name"]: field["dataType"] for field in document["recordSet"][0]["field"]}
    found = pd.read_parquet(folder / PARQUET[0])
    assert list(fields) == list(found)
    kinds = {"i": "sc:Integer", "f": "sc:Float", "b": "sc:Boolean"}
    for name, kind in fields.items():
        assert kind == ("sc:Float" if name == "weights" else kinds.get(found[name].dtype.kind, "sc:Text")), name
    assert [creator["name"] for creator in document["creator"]] == list(RELEASE.creators)
    assert document["license"] == "https://spdx.org/licenses/CC0-1.0"
    assert (document["version"], document["datePublished"], document["url"]) == ("2.1.0", "2026-11-27", RELEASE.url)


def test_mlcroissant_validates_and_loads_it(folder):
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra `publish` is not installed")
    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    assert not dataset.metadata.issues.errors
    assert not dataset.metadata.issues.warnings
    zoo = Collection.open(folder)
    records = {record["checkpoints/row"]: record for record in dataset.records("checkpoints")}
    assert sorted(records) == list(range(99))
    for row, record in records.items():
        assert np.array_equal(np.float32(record["checkpoints/weights"]), zoo.weights[row])
        assert record["checkpoints/test_accuracy"] == zoo.metrics["test_accuracy"].iloc[row]
        assert record["checkpoints/optimizer"].decode() == zoo.metrics["config.optimizer"].iloc[row]


def test_the_card_has_the_metadata_of_the_hub_and_true_numbers(collection, folder):
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    metadata = YAML(typ="safe").load(header)
    assert metadata["license"] == "cc0-1.0"
    assert metadata["size_categories"] == ["n<1K"]
    for part in metadata["configs"][0]["data_files"]:
        assert [path.relative_to(folder).as_posix() for path in folder.glob(part["path"])] == [
            f"data/{part['split']}-00000-of-00001.parquet"
        ]
    zoo = Collection.open(collection)
    final = zoo.metrics.iloc[zoo.final()]
    assert "- 11 networks; 1 more diverged and stand in `diverged.csv`\n- 99 checkpoints, 4,970 parameters each" in text
    assert "split by network: 5 train, 6 test" in text
    row = " | ".join(f"{final['test_accuracy'].quantile(q):.3f}" for q in (0, 0.25, 0.5, 0.75, 1))
    assert f"| test_accuracy | {row} |" in text
    assert f"| `dropout` | {final['config.dropout'].min():.4g} to {final['config.dropout'].max():.4g} |" in text
    assert re.search(r"\| `activation` \| relu, tanh \|", text)
    assert re.search(r"- 12 trained by the \w+ engine of cnnzoo \(arithmetic .+\) with minibatches of \d+ images", text)
    assert 'Ada Lovelace; The "zoo" team (2026)' in text


def test_its_python_examples_run_in_the_folder(collection, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    shapes = []
    for example in re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL):
        exec(example, names)
        shapes.append(np.shape(names["weights"]))
    half = len(pd.read_parquet(folder / PARQUET[0]))
    assert shapes == [(99, 4970), (99, 4970), (99, 4970), (half, 4970)]
    assert len(names["data"]) == 5


def test_the_citation_is_a_citation_file(folder):
    citation = YAML(typ="safe").load((folder / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "dataset"
    assert [author["name"] for author in citation["authors"]] == list(RELEASE.creators)
    assert (citation["license"], citation["version"], citation["url"]) == ("CC0-1.0", "2.1.0", RELEASE.url)
    assert citation["date-released"] == date(2026, 11, 27)
    assert "CC0-1.0: https://spdx.org/licenses/CC0-1.0" in (folder / "LICENSE").read_text()


def test_a_published_folder_comes_back_with_the_same_bytes(folder, tmp_path):
    project = Artifacts(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    project.params.write_text(text)
    done = import_zoo(project, folder, "again", "mnist")
    assert (done.networks, done.checkpoints) == (11, 99)
    assert {path.name for path in done.folder.iterdir()} == {*COPIED, "README.md"}
    for name in COPIED:
        assert (done.folder / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("there", ["a file in it", "a file of its name"])
def test_what_is_there_stays(collection, tmp_path, there):
    target = tmp_path / "out"
    kept = target if there == "a file of its name" else target / "mine.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(CnnzooError, match="must be a new or empty folder; nothing was written"):
        publish(collection, COLLECTION, target, RELEASE)
    assert kept.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_an_empty_folder_is_filled(collection, tmp_path):
    (tmp_path / "out").mkdir()
    publish(collection, COLLECTION, tmp_path / "out", RELEASE)
    assert (tmp_path / "out" / "README.md").exists()


def test_a_damaged_or_missing_collection_is_not_published(collection, tmp_path):
    with pytest.raises(CnnzooError, match=r"nowhere: no weights\.npy, layout\.csv, metrics\.csv\.gz, split\.csv"):
        publish(tmp_path / "nowhere", COLLECTION, tmp_path / "out", RELEASE)
    damaged = tmp_path / "damaged"
    shutil.copytree(collection, damaged)
    (damaged / "weights.npy").write_bytes((damaged / "weights.npy").read_bytes()[:-4])
    with pytest.raises(CnnzooError, match=r"damaged, not published:\n  - .*weights\.npy"):
        publish(damaged, COLLECTION, tmp_path / "out", RELEASE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("creators", "licence"), [((), "MIT"), (("",), "MIT"), (("A",), ""), (("A",), "CC BY")])
def test_a_release_without_creators_or_licence_is_refused(creators, licence):
    with pytest.raises(CnnzooError, match=r"creators|SPDX"):
        Release(creators, licence)
