"""Assembling: the bytes of a collection, and what happens when something is wrong."""

import csv
import errno
import gzip
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import (
    COLLECTION,
    SEED,
    epochs_of,
    make_recipe,
    make_recipes,
    make_shard,
    make_shards,
    metrics_of,
    weights_of,
)
from cnnzoo.atomic import atomic_file
from cnnzoo.collection import assemble, first_rows, writer
from cnnzoo.collection import format as published
from cnnzoo.errors import CnnzooError
from cnnzoo.training import shards as training_shards
from cnnzoo.training.shards import write_shard

GOLDEN = Path(__file__).parent / "golden"
STRING_ORDER = [0, 1, 2, 20, 3, 40, 60, 80, 86]


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Five networks in several shards, network 2 diverged at epoch 20."""
    folder = tmp_path_factory.mktemp("tiny")
    recipes = make_recipes(5)
    shards = make_shards(folder / "checkpoints", recipes, diverged={2: 20})
    assembled = assemble(shards, recipes, COLLECTION, folder / "zoo", SEED)
    return folder / "zoo", assembled, recipes, shards


@pytest.mark.parametrize("name", ["layout.csv", "diverged.csv", "split.csv", "metrics.csv"])
def test_text_files_are_the_golden_ones_byte_for_byte(tiny, name):
    folder = tiny[0]
    path = folder / name if name != "metrics.csv" else folder / "metrics.csv.gz"
    content = path.read_bytes() if name != "metrics.csv" else gzip.decompress(path.read_bytes())
    assert content == (GOLDEN / name).read_bytes()


def test_columns_are_the_published_ones_in_order(tiny):
    header = gzip.decompress((tiny[0] / "metrics.csv.gz").read_bytes()).decode().splitlines()[0]
    assert header == (
        ",config.activation,config.b_init,config.dataset,config.dnn_architecture,config.dropout,config.epochs,"
        "config.epochs_between_checkpoints,config.init_std,config.l2reg,config.learning_rate,config.num_layers,"
        "config.num_units,config.optimizer,config.random_seed,config.train_fraction,config.w_init,modeldir,step,"
        "test_accuracy,test_loss,train_accuracy,train_loss,laststep"
    )


def test_score_columns_are_the_metrics_of_a_shard():
    assert published.SCORE_COLUMNS == training_shards.METRICS


def test_rows_are_networks_in_order_and_steps_sorted_as_strings(tiny):
    folder, assembled, recipes, _ = tiny
    weights = np.load(folder / "weights.npy", mmap_mode="r", allow_pickle=False)
    assert (weights.dtype, weights.shape, weights.flags.c_contiguous) == (np.float32, (36, 4970), True)
    with gzip.open(folder / "metrics.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [(recipe, step) for recipe in recipes if recipe.network != 2 for step in STRING_ORDER]
    assert len(rows) == len(expected)
    for index, (recipe, step) in enumerate(expected):
        position = epochs_of(recipe).index(step)
        np.testing.assert_array_equal(weights[index], weights_of(recipe)[position])
        row = rows[index]
        assert (row["modeldir"], row["step"]) == (f"tiny/{recipe.network:06d}", str(step))
        assert row["laststep"] == str(step == 86)
        assert float(row["config.learning_rate"]) == recipe.learning_rate  # every digit is kept
        for name, values in metrics_of(recipe).items():
            assert float(row[name]) == values[position]
    assert assembled.rows_per_network == 9
    assert assembled.first_row == {0: 0, 1: 9, 3: 18, 4: 27}
    assert assembled.diverged == {2: 20}


def test_the_row_of_a_network_is_known_without_assembling(tiny):
    _, assembled, recipes, shards = tiny
    assert first_rows(shards, recipes) == assembled.first_row


def test_gzip_header_has_no_time_and_no_name(tiny):
    assert (tiny[0] / "metrics.csv.gz").read_bytes()[:8] == bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0])


def test_assembling_twice_gives_the_same_bytes_whatever_the_order_of_shards(tiny, tmp_path):
    folder, _, recipes, shards = tiny
    assemble(shards[::-1], recipes[::-1], COLLECTION, tmp_path / "again", SEED)
    assert file_bytes(tmp_path / "again") == file_bytes(folder)


def test_the_bytes_do_not_depend_on_how_networks_lie_in_shards(tiny, tmp_path):
    folder, _, recipes, _ = tiny
    shards = [
        make_shard(tmp_path / "other", [recipes[i] for i in ids], diverged={2: 20}) for ids in ([4, 2, 0], [3, 1])
    ]
    assemble(shards, recipes, COLLECTION, tmp_path / "zoo", SEED)
    assert file_bytes(tmp_path / "zoo") == file_bytes(folder)


def test_surplus_networks_of_the_shards_are_ignored(tiny, tmp_path):
    _, _, recipes, shards = tiny
    stale = make_shard(tmp_path / "stale", [make_recipe(1, learning_rate=0.5)])
    assembled = assemble([stale, *shards], recipes[:2], COLLECTION, tmp_path / "zoo", SEED)
    assert assembled.first_row == {0: 0, 1: 9}
    weights = np.load(tmp_path / "zoo" / "weights.npy")
    np.testing.assert_array_equal(weights[9], weights_of(recipes[1])[0])


def test_of_two_shards_with_one_recipe_the_first_by_name_serves(tmp_path):
    """Batched engines round by cohort, so which of two equal recipes is taken must not depend on the list's order."""
    recipes = make_recipes(2)
    shards = [make_shard(tmp_path / "c", recipes), make_shard(tmp_path / "c", recipes[:1])]
    other = weights_of(recipes[0])[None] + 1
    shards[1] = write_shard(
        tmp_path / "c", shards[1].origin, recipes[:1], other, shards[1].metrics, shards[1].diverged_epoch
    )
    for name, order in (("a", shards), ("b", shards[::-1])):
        assemble(order, recipes, COLLECTION, tmp_path / name, SEED)
    assert file_bytes(tmp_path / "a") == file_bytes(tmp_path / "b")


@pytest.mark.parametrize("networks", [1, 2, 5, 8])
def test_split_halves_the_networks_at_every_epoch(tmp_path, networks):
    recipes = make_recipes(networks, epochs=3)
    assemble(make_shards(tmp_path, recipes), recipes, COLLECTION, tmp_path / "zoo", SEED)
    split = [int(line) for line in (tmp_path / "zoo" / "split.csv").read_text().splitlines()]
    assert sorted(split) == list(range(4 * networks))
    train = {row // 4 for row in split[: 4 * (networks // 2)]}
    assert len(train) == networks // 2
    for epoch in range(4):
        there = [row // 4 for row in split if row % 4 == epoch]
        assert set(there[: networks // 2]) == train


def test_split_depends_on_seed_and_collection():
    networks = np.repeat(np.arange(50), 2)
    splits = [published.draw_split(networks, seed, name).tolist() for seed, name in ((1, "a"), (2, "a"), (1, "b"))]
    assert splits[0] != splits[1]
    assert splits[0] != splits[2]


def refuse(recipes, shards, folder, message):
    with pytest.raises(CnnzooError, match=message):
        assemble(shards, recipes, COLLECTION, folder, SEED)


def test_a_wanted_network_that_no_shard_holds_is_named(tiny, tmp_path):
    _, _, _, shards = tiny
    refuse(make_recipes(7), shards, tmp_path / "zoo", "network 5 is in no shard.*dvc repro train")
    assert not (tmp_path / "zoo").exists()


def test_a_network_trained_with_another_recipe_is_named_with_the_difference(tiny, tmp_path):
    _, _, recipes, shards = tiny
    changed = [replace(recipe, dropout=0.25) if recipe.network == 3 else recipe for recipe in recipes]
    refuse(changed, shards, tmp_path / "zoo", r"network 3 was trained with another recipe \(`dropout` is 0\.33.*0\.25")


def test_a_network_wanted_twice_is_refused(tiny, tmp_path):
    _, _, recipes, shards = tiny
    refuse([*recipes, recipes[1]], shards, tmp_path / "zoo", "network 1 stands twice")


def test_no_recipes_at_all_are_refused(tiny, tmp_path):
    refuse([], tiny[3], tmp_path / "zoo", "no recipes")


def test_networks_of_two_architectures_are_refused(tmp_path):
    recipes = [make_recipe(0), make_recipe(1, num_units=8)]
    shards = [make_shard(tmp_path, [recipe]) for recipe in recipes]
    refuse(recipes, shards, tmp_path / "zoo", "network 1 has num_units=8, network 0 has 16")


def test_a_collection_whose_networks_all_diverged_is_refused(tmp_path):
    recipes = make_recipes(2)
    shards = make_shards(tmp_path, recipes, diverged={0: 1, 1: 40})
    refuse(recipes, shards, tmp_path / "zoo", "all 2 networks of `tiny` diverged")


def test_an_altered_shard_is_refused_and_the_old_collection_stays(tiny, tmp_path):
    _, _, recipes, _ = tiny
    shards = make_shards(tmp_path / "checkpoints", recipes)
    assemble(shards, recipes, COLLECTION, tmp_path / "zoo", SEED)
    before = file_bytes(tmp_path / "zoo")
    content = bytearray(shards[1].path.read_bytes())
    content[-1000] ^= 1
    shards[1].path.write_bytes(content)
    refuse(recipes, shards, tmp_path / "zoo", "altered or damaged")
    assert file_bytes(tmp_path / "zoo") == before
    assert [path.name for path in tmp_path.iterdir() if "writing" in path.name] == []


def test_weights_that_are_not_finite_but_not_marked_are_refused(tmp_path):
    recipes = make_recipes(2)
    marked = make_shard(tmp_path, recipes, diverged={1: 60})
    shard = replace(marked, diverged_epoch=np.full(2, training_shards.NEVER))
    refuse(recipes, [shard], tmp_path / "zoo", "network 1 has weights that are not finite")


class FullDisk:
    """A file on a disk that has room for so many bytes, shared by all its files."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room[0] -= len(memoryview(data).cast("B"))
        if self.room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize(
    ("room_bytes", "fails_in"), [(0, "header"), (500_000, "weights.npy"), (716_000, "metrics.csv.gz")]
)
def test_a_full_disk_leaves_the_old_collection_untouched(tiny, tmp_path, monkeypatch, room_bytes, fails_in):
    _, _, recipes, shards = tiny
    assemble(shards, recipes[:2], COLLECTION, tmp_path / "zoo", SEED)
    before = file_bytes(tmp_path / "zoo")
    room, opened = [room_bytes], []

    @contextmanager
    def on_full_disk(path):
        opened.append(path.name)
        with atomic_file(path) as file:
            yield FullDisk(file, room)

    monkeypatch.setattr(writer, "atomic_file", on_full_disk)
    refuse(
        recipes, shards, tmp_path / "zoo", r"zoo: cannot be written \(No space left on device\).*untouched.*free some"
    )
    assert file_bytes(tmp_path / "zoo") == before
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]
    assert opened[-1] == (fails_in if fails_in != "header" else "weights.npy")


def test_a_place_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refuse(tiny[2], tiny[3], tmp_path / "file" / "zoo", "file/zoo: cannot be written.*folder that you may write to")


def test_memory_is_bounded_by_one_shard(tmp_path):
    recipes = make_recipes(240, num_units=8, epochs=3, activation="relu", optimizer="sgd", train_fraction=1.0)
    shards = make_shards(tmp_path, recipes, cohort_size=24)
    shard_bytes = shards[0].weights().nbytes
    tracemalloc.start()
    assemble(shards, recipes, COLLECTION, tmp_path / "zoo", SEED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    matrix_bytes = (tmp_path / "zoo" / "weights.npy").stat().st_size
    assert matrix_bytes > 9 * shard_bytes
    assert peak < 4 * shard_bytes  # measured 2.9: the file's bytes, the arrays, and the small things
