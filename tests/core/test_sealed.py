"""Sealed folders: every file that is altered, missing or foreign is named before its content is used."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnnzoo.core.sealed import read_seal, write_seal

CONTENT = {"format": "x", "values": [0.1, 1e-300, 3], "name": "relü", "nothing": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "part").mkdir()
    (tmp_path / "trees.cbm").write_bytes(bytes(range(256)))
    (tmp_path / "part" / "arrays.safetensors").write_bytes(b"")
    write_seal(tmp_path / "seal.json", CONTENT)
    return tmp_path


def test_what_is_written_is_read(folder):
    assert read_seal(folder / "seal.json") == CONTENT
    assert json.loads((folder / "seal.json").read_text())["files"].keys() == {"trees.cbm", "part/arrays.safetensors"}


@pytest.mark.parametrize("name", ["trees.cbm", "part/arrays.safetensors"])
def test_an_altered_file_is_named(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes() + b"x")
    with pytest.raises(ValueError, match=f"^{name} is altered or damaged$"):
        read_seal(folder / "seal.json")


def test_a_missing_file_and_a_foreign_one_are_named(folder):
    (folder / "part" / "more").write_text("x")
    with pytest.raises(ValueError, match=r"^part/more is foreign$"):
        read_seal(folder / "seal.json")
    (folder / "part" / "more").unlink()
    (folder / "trees.cbm").unlink()
    with pytest.raises(ValueError, match=r"^trees\.cbm is missing$"):
        read_seal(folder / "seal.json")


@pytest.mark.parametrize("change", [('"x"', '"y"'), ("0.1", "0.2"), ("null", "1"), ("relu", "tanh")])
def test_an_altered_content_is_found(folder, change):
    path = folder / "seal.json"
    text = path.read_text().replace("rel\\u00fc", "relu")
    path.write_text(text.replace(*change))
    with pytest.raises(ValueError, match=r"^seal\.json is altered or damaged$"):
        read_seal(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"files": {}}', '{"files": []}'])
def test_what_is_no_seal_is_refused(folder, text):
    (folder / "seal.json").write_text(text)
    with pytest.raises(ValueError, match=r"seal\.json|Expecting value"):
        read_seal(folder / "seal.json")


def test_numbers_of_numpy_are_sealed_as_they_are_written(tmp_path):
    write_seal(tmp_path / "seal.json", {"value": np.float64(0.1), "count": np.int64(3)}, default=lambda v: v.item())
    assert read_seal(tmp_path / "seal.json") == {"value": 0.1, "count": 3}
