"""Assembling: the bytes of a collection, and what happens when something is wrong."""

import csv
import errno
import gzip
import hashlib
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
    make_origin,
    make_recipe,
    make_recipes,
    make_shard,
    make_shards,
    metrics_of,
    weights_of,
)
from cnnzoo.core.atomic import atomic_file
from cnnzoo.core.errors import CnnzooError
from cnnzoo.zoo import assemble, first_rows, writer
from cnnzoo.zoo import format as published
from cnnzoo.zoo.recipes import COLUMNS, KINDS, Recipe
from cnnzoo.zoo.shards import METRICS, NEVER, Shard, write_shard

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
    assert published.SCORE_COLUMNS == METRICS


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
    refuse([*recipes, recipes[1]], shards, tmp_path / "zoo", "network 1 occurs twice")


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
    shard = replace(marked, diverged_epoch=np.full(2, NEVER))
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


EXACT_EPOCHS = (0, 1, 2, 3, 5, 10)
EXACT_ORDER = (0, 1, 10, 2, 3, 5)
"""Epochs 0 to 10 as strings: the last epoch is not the last row."""
EXACT_CONFIG = {
    0: "relu,zeros,mnist5k,cnn,0.25,10,5,0.125,9.5367431640625e-07,0.03125,2,3,sgd,7,0.5,he_normal",
    4: "tanh,zeros,mnist5k,cnn,0.5,10,5,0.0625,0.00390625,0.0078125,2,3,rmsprop,7,1.0,orthogonal",
    1000003: "relu,ones,fashion_mnist,mlp,0.0,10,5,0.5,0.0,0.015625,2,3,adam,9,0.25,TruncatedNormal",
}
EXACT_NAMES = {0: "exact/000000", 4: "exact/000004", 1000003: "exact/1000003"}
EXACT_DIVERGED = {2: 10, 3: 0, 9: 2}
EXACT_SPLIT = [*range(12, 18), *range(6, 12), *range(6)]
EXACT_SHA256 = {
    "weights.npy": "08bf198a782b1a405b323fd4985b1e8bc18175bf6c17581fbe46b3909a0256a0",
    "layout.csv": "986a5b9b811384f4b9f04970c46f9aec8e382bf095b83c1bf895c356c7e9cfc7",
    "metrics.csv": "ebd7a8f5817a6333578852a357bdf68e51c9c728096dcf682b5fef429d2b3255",
    "diverged.csv": "f33ae335467362f8081c7d3d867f98341482c7ca3d00ec30e7e012b5f99c3854",
    "split.csv": "27a0951c27291b84e6ee41b37e15e157f95e9cdf66062c7d9ac8cfa7212e4ff9",
    "README.md": "1f7afa93c97a83cedc7c4abee9ed29407f9e3f630d9bf78a0bcf535ab2798f35",
}
"""Of the files' content (metrics.csv unpacked), printed by the test that compares them. They change if the published
format, the order of rows or the drawing of the split changes: whoever pulls a collection then gets another one."""


def exact_recipe(network: int) -> Recipe:
    """Return a recipe without a number that binary fractions cannot hold."""
    words = EXACT_CONFIG.get(network, EXACT_CONFIG[4]).split(",")
    kinds = [KINDS[name] for name in COLUMNS if name != "network"]
    return Recipe(network, *(kind(word) for kind, word in zip(kinds, words, strict=True)))


def exact_weights(network: int) -> np.ndarray:
    """Return multiples of 1/64, (E, P), different in every network, epoch and place."""
    epoch, place = np.arange(6)[:, None], np.arange(154)
    return ((network % 1000 * 41 + epoch * 211 + place * 7) % 1021 / 64 - 8).astype(np.float32)


def exact_scores(network: int, epoch: int) -> dict[str, float]:
    """Return four different scores, multiples of 1/64."""
    first = network % 1000 % 7 + epoch
    return {
        "test_accuracy": (first + 1) / 64,
        "test_loss": 3 - first / 64,
        "train_accuracy": (first + 33) / 64,
        "train_loss": 2 - first / 64,
    }


def exact_shard(folder: Path, networks: list[int], diverged: dict[int, int] | None = None) -> Shard:
    metrics = {
        name: np.array([[exact_scores(n, epoch)[name] for epoch in EXACT_EPOCHS] for n in networks]) for name in METRICS
    }
    weights = np.stack([exact_weights(network) for network in networks])
    lost = diverged or {}
    for index, network in enumerate(networks):
        if network in lost:
            weights[index, np.array(EXACT_EPOCHS) >= lost[network]] = np.nan
    at = np.array([lost.get(network, NEVER) for network in networks])
    return write_shard(folder, make_origin("exact"), [exact_recipe(n) for n in networks], weights, metrics, at)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """Six networks in three shards, ids with gaps: three have rows, one diverged at the start, one at the end."""
    folder = tmp_path_factory.mktemp("exact")
    shards = [
        exact_shard(folder, [1000003, 3, 0], EXACT_DIVERGED),
        exact_shard(folder, [9, 4], EXACT_DIVERGED),
        exact_shard(folder, [2, 7], EXACT_DIVERGED),  # network 7 is not wanted
    ]
    recipes = [exact_recipe(network) for network in (4, 1000003, 2, 9, 0, 3)]
    assembled = assemble(shards, recipes, "exact", folder / "zoo", SEED)
    return folder / "zoo", assembled, shards, recipes


def test_metrics_of_an_exact_collection_are_written_as_the_published_table(exact):
    """Columns, index, order of rows, numbers and `laststep`, written out."""
    expected = [
        ",config.activation,config.b_init,config.dataset,config.dnn_architecture,config.dropout,config.epochs,"
        "config.epochs_between_checkpoints,config.init_std,config.l2reg,config.learning_rate,config.num_layers,"
        "config.num_units,config.optimizer,config.random_seed,config.train_fraction,config.w_init,modeldir,step,"
        "test_accuracy,test_loss,train_accuracy,train_loss,laststep"
    ]
    for network, name in EXACT_NAMES.items():
        for step in EXACT_ORDER:
            scores = ",".join(str(value) for value in exact_scores(network, step).values())
            last = "True" if step == 10 else "False"
            expected.append(f"{name}/permanent_ckpt-{step},{EXACT_CONFIG[network]},{name},{step},{scores},{last}")
    assert gzip.decompress((exact[0] / "metrics.csv.gz").read_bytes()).decode() == "\n".join(expected) + "\n"


def test_weights_of_an_exact_collection_are_those_of_the_shards(exact):
    weights = np.load(exact[0] / "weights.npy", allow_pickle=False)
    rows = [exact_weights(n)[EXACT_EPOCHS.index(step)] for n in EXACT_NAMES for step in EXACT_ORDER]
    assert weights.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(weights, np.stack(rows))
    _, assembled, shards, recipes = exact
    assert assembled.first_row == {0: 0, 4: 6, 1000003: 12}
    assert assembled.rows_per_network == 6
    assert first_rows(shards, recipes) == assembled.first_row


def test_diverged_networks_of_an_exact_collection_are_listed_in_network_order(exact):
    """Also one that never was finite, and one that was until its last epoch."""
    lines = [f"{network},{EXACT_CONFIG[4]},{epoch}" for network, epoch in sorted(EXACT_DIVERGED.items())]
    assert (exact[0] / "diverged.csv").read_text().splitlines()[1:] == lines
    assert exact[1].diverged == EXACT_DIVERGED


def test_split_of_an_exact_collection_is_the_drawn_one(exact):
    assert (exact[0] / "split.csv").read_text() == "".join(f"{row}\n" for row in EXACT_SPLIT)


def test_split_is_in_the_order_of_a_shuffle_keyed_by_seed_purpose_and_collection(tmp_path):
    """The shuffle written out in NumPy; the networks stand in its order, each with its rows ascending."""
    recipes = make_recipes(11, num_units=1, num_layers=1, epochs=1)
    assemble(make_shards(tmp_path / "c", recipes), recipes, "some_name", tmp_path / "zoo", 123)
    words = np.frombuffer(hashlib.sha256(b"('split', 'some_name')").digest(), dtype="<u4").tolist()
    bits = np.random.PCG64(np.random.SeedSequence(123, spawn_key=tuple(words)))
    order = np.random.Generator(bits).permutation(11)
    assert order.tolist() != np.argsort(order).tolist()  # the inverse would show
    split = [int(line) for line in (tmp_path / "zoo" / "split.csv").read_text().splitlines()]
    assert split == [2 * network + row for network in order for row in (0, 1)]


def test_files_of_an_exact_collection_have_the_same_hashes_on_every_machine(exact):
    content = {path.name: path.read_bytes() for path in exact[0].iterdir()}
    content["metrics.csv"] = gzip.decompress(content.pop("metrics.csv.gz"))
    del content["manifest.json"]  # it holds the digest of the packed metrics, which depends on zlib
    assert {name: hashlib.sha256(text).hexdigest() for name, text in content.items()} == EXACT_SHA256


def renamed(shard: Shard, name: str) -> Shard:
    """Return a shard whose file has another name: the order of names decides, whatever the hash is."""
    return replace(shard, path=shard.path.rename(shard.path.with_name(name)))


@pytest.mark.parametrize("names", ["ab", "ba"])
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_shards_with_one_recipe_the_weights_and_scores_are_those_of_the_first_by_name(tmp_path, names, turned):
    shard = exact_shard(tmp_path / "c", [0, 4])
    values = {name: array[1:] / 2 for name, array in shard.metrics.items()}
    other = write_shard(
        tmp_path / "c", shard.origin, shard.recipes[1:], shard.weights()[1:] + 1, values, shard.diverged_epoch[1:]
    )
    shards = [renamed(shard, f"{names[0]}.safetensors"), renamed(other, f"{names[1]}.safetensors")]
    assemble(shards[::-1] if turned else shards, shard.recipes, "exact", tmp_path / "zoo", SEED)
    added = names.index("a")  # 0: the first shard serves
    position = [EXACT_EPOCHS.index(step) for step in EXACT_ORDER]
    np.testing.assert_array_equal(np.load(tmp_path / "zoo" / "weights.npy")[6:], exact_weights(4)[position] + added)
    with gzip.open(tmp_path / "zoo" / "metrics.csv.gz", "rt", newline="") as file:
        accuracies = [float(row["test_accuracy"]) for row in csv.DictReader(file)][6:]
    assert accuracies == [exact_scores(4, step)["test_accuracy"] / (1 + added) for step in EXACT_ORDER]


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_of_a_stale_and_a_valid_shard_the_one_with_the_wanted_recipe_serves(tmp_path, names):
    valid = exact_shard(tmp_path / "c", [0])
    changed = replace(valid.recipes[0], w_init="orthogonal")
    stale = write_shard(
        tmp_path / "c", valid.origin, [changed], valid.weights() + 1, valid.metrics, valid.diverged_epoch
    )
    shards = [renamed(valid, f"{names[0]}.safetensors"), renamed(stale, f"{names[1]}.safetensors")]
    assemble(shards, valid.recipes, "exact", tmp_path / "zoo", SEED)
    np.testing.assert_array_equal(np.load(tmp_path / "zoo" / "weights.npy")[0], exact_weights(0)[0])


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "network"])
def test_a_recipe_that_changed_in_any_hyperparameter_is_another_one(tiny, tmp_path, name):
    _, _, recipes, shards = tiny
    value = getattr(recipes[1], name)
    changed = replace(recipes[1], **{name: f"{value}x" if isinstance(value, str) else value + 1})
    refuse([recipes[0], changed], shards, tmp_path / "zoo", rf"network 1 was trained with another recipe \(`{name}` is")


@pytest.mark.parametrize("name", ["num_units", "num_layers", "epochs", "epochs_between_checkpoints"])
def test_what_the_networks_of_one_matrix_share_is_checked(tmp_path, name):
    first = make_recipe(0, num_units=2, num_layers=2, epochs=6, epochs_between_checkpoints=5)
    recipes = [first, replace(first, network=1, **{name: getattr(first, name) + 1})]
    shards = [make_shard(tmp_path, [recipe]) for recipe in recipes]
    refuse(recipes, shards, tmp_path / "zoo", f"network 1 has {name}=.*, network 0 has .*share it")


@pytest.mark.parametrize("epoch", STRING_ORDER)
def test_weights_that_are_not_finite_are_refused_at_any_epoch(tmp_path, epoch):
    recipe = make_recipe(0, num_units=2)
    weights = weights_of(recipe)[None].copy()
    weights[0, epochs_of(recipe).index(epoch), 5] = np.inf
    metrics = {name: np.array([values]) for name, values in metrics_of(recipe).items()}
    shard = write_shard(tmp_path, make_origin(), [recipe], weights, metrics, np.array([NEVER]))
    refuse([recipe], [shard], tmp_path / "zoo", "network 0 has weights that are not finite")


@pytest.mark.parametrize("change", [lambda w: w[:, :-1], lambda w: w[:, :, :-1], lambda w: w.astype(np.float64)])
def test_a_shard_whose_weights_have_another_shape_or_type_is_refused(tmp_path, change):
    recipe = make_recipe(0, num_units=2)
    metrics = {name: np.array([values]) for name, values in metrics_of(recipe).items()}
    weights = change(weights_of(recipe)[None])
    shard = write_shard(tmp_path, make_origin(), [recipe], weights, metrics, np.array([NEVER]))
    refuse([recipe], [shard], tmp_path / "zoo", r"its weights are .*expected float32 \(1, 9, ")
