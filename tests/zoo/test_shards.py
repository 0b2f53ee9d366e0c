import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from builders import make_origin, make_recipes, make_shard, metrics_of, weights_of
from cnnzoo.core.errors import CnnzooError
from cnnzoo.zoo.shards import METRICS, NEVER, read_shard, read_shards, shard_name

RECIPES = make_recipes(3, num_units=2, epochs=5, epochs_between_checkpoints=2)
REMEDY = r"Delete this file and run `dvc repro` again: only its networks are trained again\."


@pytest.fixture
def shard(tmp_path):
    return make_shard(tmp_path, RECIPES, diverged={1: 4})


def test_reading_gives_back_what_was_written(shard):
    read = read_shard(shard.path)
    assert (read.origin, read.recipes, read.digest, read.path) == (
        make_origin(),
        tuple(RECIPES),
        shard.digest,
        shard.path,
    )
    assert read.epochs == (0, 1, 2, 3, 4, 5)
    assert read.diverged_epoch.tolist() == [NEVER, 4, NEVER]
    np.testing.assert_array_equal(read.weights()[[0, 2]], [weights_of(RECIPES[0]), weights_of(RECIPES[2])])
    assert read.weights().dtype == np.float32
    for name in METRICS:
        np.testing.assert_array_equal(read.metrics[name][0], metrics_of(RECIPES[0])[name])
    assert np.isnan(read.weights()[1, 4:]).all()


def test_same_content_gives_the_same_bytes_and_name(shard, tmp_path):
    for attempt in range(5):  # a hash map in the format's library shuffled at every call
        again = make_shard(tmp_path / str(attempt), RECIPES, diverged={1: 4})
        assert again.name == shard.name
        assert again.path.read_bytes() == shard.path.read_bytes()


def test_name_is_a_hash_of_every_recipe_and_origin_field():
    names = {shard_name(make_origin(), RECIPES)}
    for field in fields(make_origin()):
        value = getattr(make_origin(), field.name)
        other = value + 1 if isinstance(value, int) else value + "x"
        names.add(shard_name(replace(make_origin(), **{field.name: other}), RECIPES))
    for field in fields(RECIPES[0]):
        value = getattr(RECIPES[0], field.name)
        other = value + "x" if isinstance(value, str) else np.nextafter(value, 2) if isinstance(value, float) else 9
        names.add(shard_name(make_origin(), [replace(RECIPES[0], **{field.name: other}), *RECIPES[1:]]))
    names.add(shard_name(make_origin(), RECIPES[:2]))
    names.add(shard_name(make_origin(), RECIPES[::-1]))
    assert len(names) == 1 + len(fields(make_origin())) + len(fields(RECIPES[0])) + 2
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)


def test_name_stays_what_it_was_when_the_first_zoo_was_made():
    """A golden name: a change here trains every zoo again."""
    assert shard_name(make_origin(), RECIPES) == "7c69cc321b22ac55"


def test_truncated_shard_names_the_file_and_the_remedy(shard):
    content = shard.path.read_bytes()
    for size in (0, 4, 100, len(content) // 2, len(content) - 1):
        shard.path.write_bytes(content[:size])
        with pytest.raises(CnnzooError, match=rf"{shard.path}: truncated or damaged .*{REMEDY}"):
            read_shard(shard.path)


def test_flipped_byte_anywhere_is_found_before_the_weights_are_used(shard):
    content = shard.path.read_bytes()
    for position in np.linspace(0, len(content) - 1, 100).astype(int):
        damaged = bytearray(content)
        damaged[position] ^= 0x11
        shard.path.write_bytes(damaged)
        with pytest.raises(CnnzooError, match=rf"{shard.path}: .*{REMEDY}"):
            read_shard(shard.path).weights()


def test_altered_metrics_are_found_without_the_weights(shard):
    arrays, content = load_file(shard.path), content_of(shard.path)
    for name in (*METRICS, "diverged_epoch"):
        altered = arrays[name].copy()
        altered.flat[0] += 1
        rewrite(shard.path, arrays | {name: altered}, content)
        with pytest.raises(CnnzooError, match="its metrics are altered or damaged"):
            read_shard(shard.path)


def test_shards_of_an_earlier_version_are_read_and_checked_as_a_whole(shard):
    arrays, content = load_file(shard.path), content_of(shard.path)
    del content["metrics_sha256"]
    rewrite(shard.path, arrays, content)
    assert read_shard(shard.path).digest == shard.digest
    altered = arrays["test_accuracy"] + 1
    rewrite(shard.path, arrays | {"test_accuracy": altered}, content)
    with pytest.raises(CnnzooError, match="its metrics are altered or damaged"):
        read_shard(shard.path)


def test_renamed_shard_is_refused(shard):
    renamed = shard.path.with_name("0123456789abcdef.safetensors")
    shard.path.rename(renamed)
    with pytest.raises(CnnzooError, match=rf"{renamed}: not a valid shard .*name is not the hash.*{REMEDY}"):
        read_shard(renamed)


def content_of(path):
    """Return what a shard says of itself, read by the safetensors specification."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["cnnzoo"])


def rewrite(path, arrays, content):
    save_file(arrays, path, {"cnnzoo": json.dumps(content)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "cnnzoo-shard-0"}, "format cnnzoo-shard-0, expected cnnzoo-shard-1"),
        ({"recipes": [{}]}, "missing"),
        ({"recipes": 3}, "not iterable"),
        ({"origin": {}}, "missing"),
        ({"origin": {"folder": "x"}}, "unexpected keyword"),
    ],
)
def test_foreign_metadata_is_refused(shard, change, says):
    rewrite(shard.path, load_file(shard.path), content_of(shard.path) | change)
    with pytest.raises(CnnzooError, match=rf"{shard.path}: not a valid shard \(.*{says}.*{REMEDY}"):
        read_shard(shard.path)


def test_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"layer": np.zeros(3, np.float32)}, path)
    with pytest.raises(CnnzooError, match=rf"{path}: not a valid shard .*{REMEDY}"):
        read_shard(path)


@pytest.mark.parametrize("text", ["not json", "[]", "null"])
def test_metadata_that_cannot_be_read_is_refused(shard, text):
    save_file(load_file(shard.path), shard.path, {"cnnzoo": text})
    with pytest.raises(CnnzooError, match=rf"{shard.path}: not a valid shard \(.*{REMEDY}"):
        read_shard(shard.path)


@pytest.mark.parametrize("name", [*METRICS, "diverged_epoch"])
def test_arrays_of_a_wrong_shape_or_missing_ones_are_refused(shard, name):
    arrays, content = load_file(shard.path), content_of(shard.path)
    rewrite(shard.path, arrays | {name: arrays[name][:-1].copy()}, content)
    with pytest.raises(CnnzooError, match=f"`{name}` is .*expected"):
        read_shard(shard.path)
    del arrays[name]
    rewrite(shard.path, arrays, content)
    with pytest.raises(CnnzooError, match=name):
        read_shard(shard.path)


def test_missing_shard_says_how_to_make_it(tmp_path):
    with pytest.raises(CnnzooError, match="not there; make it with `dvc repro train`"):
        read_shard(tmp_path / "absent.safetensors")


def test_shards_are_read_in_order_of_their_names_and_files_in_the_making_are_skipped(tmp_path):
    written = [make_shard(tmp_path, [recipe]) for recipe in RECIPES]
    (tmp_path / ".writing-1-half.safetensors").write_bytes(b"half")
    (tmp_path / "notes.txt").touch()
    assert [shard.name for shard in read_shards(tmp_path)] == sorted(shard.name for shard in written)
    assert read_shards(tmp_path / "absent") == []
