"""Opening a collection: selections, halves, runnable networks; published folders; the literature's loaders."""

import ast
import gzip
import random

import numpy as np
import pandas as pd
import pytest
import torch

from builders import (
    COLLECTION,
    SEED,
    make_collection,
    make_images,
    make_origin,
    make_recipes,
    make_shard,
    metrics_of,
    weights_of,
)
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import network_input
from cnnzoo.training.engines.base import Cohort
from cnnzoo.training.engines.reference import ReferenceEngine
from cnnzoo.zoo import Collection, assemble, check, write_split
from cnnzoo.zoo.format import METRICS_COLUMNS, open_weights, read_rows
from cnnzoo.zoo.shards import METRICS, NEVER, write_shard


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine networks with rows: ten, of which network 4 diverged."""
    return make_collection(tmp_path_factory.mktemp("zoo"), networks=10, diverged={4: 3})


def make_published(folder, target):
    """Turn one of our folders into what the archives hold: no extra files, other names, other number formats."""
    target.mkdir()
    for name in ("weights.npy", "layout.csv"):
        (target / name).write_bytes((folder / name).read_bytes())
    metrics = pd.read_csv(folder / "metrics.csv.gz", index_col=0)
    names = "/cell/home/user/" + metrics["modeldir"].str.replace("tiny/", "1234")
    metrics["modeldir"] = names
    metrics.index = pd.Index(
        [f"{name}/permanent_ckpt-{step}" for name, step in zip(names, metrics["step"], strict=True)]
    )
    metrics["step"] = metrics["step"].astype(float)
    metrics.to_csv(target / "metrics.csv.gz", compression={"method": "gzip", "mtime": 1_580_000_000})
    return target


def test_weights_are_mapped_and_read_only(folder):
    zoo = Collection.open(folder)
    assert isinstance(zoo.weights, np.memmap)
    assert not zoo.weights.flags.writeable
    assert zoo.weights.shape == (81, 4970)


def test_metrics_keep_every_bit_of_the_recipes_and_scores(folder):
    metrics = Collection.open(folder).metrics
    recipes = [recipe for recipe in make_recipes(10) if recipe.network != 4]
    assert metrics["config.l2reg"].tolist() == [recipe.l2reg for recipe in recipes for _ in range(9)]
    assert metrics["test_loss"].iloc[8::9].tolist() == [metrics_of(recipe)["test_loss"][-1] for recipe in recipes]


def test_checkpoints_of_an_epoch_are_one_row_per_network(folder):
    zoo = Collection.open(folder)
    assert zoo.epochs == (0, 1, 2, 3, 20, 40, 60, 80, 86)
    assert zoo.at(20).tolist() == list(range(3, 81, 9))  # 20 is the fourth in string order
    assert zoo.final().tolist() == list(range(8, 81, 9))
    assert zoo.networks.tolist() == [network for network in range(9) for _ in range(9)]


def test_halves_are_disjoint_by_network_at_every_epoch(folder):
    zoo = Collection.open(folder)
    train = set(zoo.networks[zoo.final("train")])
    assert len(train) == 9 // 2
    for epoch in zoo.epochs:
        assert set(zoo.networks[zoo.at(epoch, "train")]) == train
        assert sorted([*zoo.at(epoch, "train"), *zoo.at(epoch, "test")]) == zoo.at(epoch).tolist()


def test_an_epoch_without_checkpoints_is_refused(folder):
    with pytest.raises(CnnzooError, match="no checkpoints at epoch 85; there are 0, 1, 2, 3, 20, 40, 60, 80, 86"):
        Collection.open(folder).at(85)


@pytest.mark.parametrize("row", [-1, 81])
def test_a_row_that_is_not_there_is_refused(folder, row):
    with pytest.raises(CnnzooError, match=r"rows are 0 \.\.\. 80"):
        Collection.open(folder).module(row)


def test_a_module_holds_the_weights_of_its_row(folder):
    zoo = Collection.open(folder)
    module = zoo.module(12)
    assert module.activation == "tanh"
    np.testing.assert_array_equal(module.to_row(zoo.layout), weights_of(make_recipes(2)[1])[4])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_module_scores_what_its_metrics_row_says(tmp_path, activation):
    """From training to a module: real networks of the reference engine, scored again on the test images."""
    images = make_images(train=300, test=200)
    recipes = make_recipes(3, activation=activation, optimizer="adam", epochs=2, train_fraction=1.0, dropout=0.0)
    cohort = Cohort(
        recipes[0].architecture,
        images.image_size,
        "adam",
        activation,
        learning_rate=np.full(3, 0.01),
        l2reg=np.array([recipe.l2reg for recipe in recipes]),
        dropout=np.zeros(3),
        dropout_keys=np.zeros((3, 2), dtype=np.uint32),
    )
    engine = ReferenceEngine(cohort)
    engine.load_images(images.train_images, images.train_labels)
    engine.load_state({"weights": np.stack([0.2 * weights_of(recipe)[-1] for recipe in recipes])})
    weights, scores = [], []
    for epoch in range(3):
        if epoch:
            order = np.random.default_rng(epoch).permutation(300).reshape(-1, 20)
            engine.train(order, first_step=15 * (epoch - 1))
        weights.append(engine.weights())
        test = engine.evaluate(images.test_images, images.test_labels)
        train = engine.evaluate(images.train_images, images.train_labels)
        scores.append((test.accuracy, test.loss, train.accuracy, train.loss))
    metrics = {name: np.stack([score[i] for score in scores], axis=1) for i, name in enumerate(METRICS)}
    finite = np.full(3, NEVER)
    shard = write_shard(tmp_path / "c", make_origin(), recipes, np.stack(weights, axis=1), metrics, finite)
    assemble([shard], recipes, COLLECTION, tmp_path / "zoo", SEED)

    zoo = Collection.open(tmp_path / "zoo")
    inputs = torch.from_numpy(network_input(images.test_images))[:, None]
    for row in range(len(zoo.weights)):
        right = zoo.module(row)(inputs).argmax(dim=1).numpy() == images.test_labels
        assert right.mean() == zoo.metrics["test_accuracy"].iloc[row]
    assert zoo.metrics["test_accuracy"].iloc[zoo.final()].max() > 0.3  # they did learn: chance is 0.1
    assert check(tmp_path / "zoo") == []


def test_a_published_folder_opens_and_gets_its_halves_on_demand(folder, tmp_path):
    zoo = Collection.open(make_published(folder, tmp_path / "published"))
    assert zoo.final().tolist() == list(range(8, 81, 9))
    assert zoo.metrics["step"].dtype == np.int64
    with pytest.raises(CnnzooError, match=r"split.csv: not there.*write_split"):
        zoo.final("train")
    write_split(zoo.path, zoo.networks, SEED, "mnist")
    assert len(Collection.open(zoo.path).final("train")) == 4
    assert check(zoo.path) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.npy", None, "weights.npy: not there"),
        ("weights.npy", b"\x93NUMPY", "not a whole .npy file"),
        ("layout.csv", None, "layout.csv: not there"),
        ("layout.csv", b"varname\n", "layout.csv: the header must be"),
        ("metrics.csv.gz", None, "metrics.csv.gz: not there"),
        ("metrics.csv.gz", b",step\n0,86\n", "not a whole gzip file.*cnnzoo check"),
        ("metrics.csv.gz", gzip.compress(b",step\n0,86\n", mtime=0), "no column config.activation"),
    ],
)
def test_a_folder_that_cannot_be_opened_says_why(folder, tmp_path, name, content, message):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(CnnzooError, match=message):
        Collection.open(tmp_path)


def test_the_loader_of_nfn_and_its_successors_reads_our_files_and_gets_our_halves(folder):
    """In the spirit of the loaders of NFN, neural graphs, ScaleGMN: what they do with the files, step by step."""
    data = np.load(folder / "weights.npy")
    order = pd.read_csv(folder / "split.csv", header=None).values.flatten()
    metrics = pd.read_csv(folder / "metrics.csv.gz", compression="gzip").iloc[order]
    layout = pd.read_csv(folder / "layout.csv")
    is_final = metrics["step"] == 86
    metrics, data = metrics[is_final], data[order][is_final]
    assert np.isfinite(data).all()
    assert len(data) == 9
    assert metrics.columns[0] == "Unnamed: 0"
    assert set(metrics.iloc[:, 1]) == {"relu", "tanh"}  # some address the activation by position
    train, test = list(range(int(0.5 * len(data)))), list(range(int(0.5 * len(data)), len(data)))
    random.Random(0).shuffle(train)
    kernels = []
    for _, row in layout.iterrows():
        part = data[:, row["start_idx"] : row["end_idx"]].reshape(len(data), *ast.literal_eval(row["shape"]))
        if row["varname"].endswith("kernel:0"):
            kernels.append(part.transpose(0, 4, 3, 1, 2) if part.ndim == 5 else part.transpose(0, 2, 1))
        else:
            assert row["varname"].endswith("bias:0")
    assert [kernel.shape[1:] for kernel in kernels] == [(16, 1, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (10, 16)]
    zoo = Collection.open(folder)
    for half, indices in (("train", train), ("test", test)):
        assert sorted(metrics["modeldir"].iloc[indices]) == zoo.metrics["modeldir"].iloc[zoo.final(half)].tolist()


def test_the_notebook_of_the_paper_finds_network_and_epoch_in_the_index(folder):
    """In the spirit of google-research's `filter_checkpoints`: the index is a path to network and epoch."""
    metrics = pd.read_csv(folder / "metrics.csv.gz", index_col=0)
    steps = {}
    for name in metrics.axes[0]:
        parts = name.split("/")
        steps.setdefault(parts[-2], []).append(int(parts[-1].split("-")[-1]))
    assert list(steps) == [f"{network:06d}" for network in range(10) if network != 4]
    assert all(epochs == [0, 1, 2, 20, 3, 40, 60, 80, 86] for epochs in steps.values())
    assert metrics["laststep"].dtype == bool
    assert metrics[metrics["laststep"]]["step"].tolist() == [86] * 9


def test_a_shard_of_one_network_makes_a_collection(tmp_path):
    recipes = make_recipes(1)
    assemble([make_shard(tmp_path, recipes)], recipes, COLLECTION, tmp_path / "zoo", SEED)
    zoo = Collection.open(tmp_path / "zoo")
    assert (len(zoo.final("train")), len(zoo.final("test"))) == (0, 1)
    assert check(zoo.path) == []


HAND_NETWORKS = {
    "b/zebra": (2, 20, "tanh", (0, 1, 2)),
    "a/apple": (5, 5, "relu", (0, 1, 2, 3, 5)),
    "c/mango": (1, 20, "relu", (0, 1)),
    "a/zoo": (5, 5, "tanh", (0, 1, 2, 3, 5)),
    "d": (2, 20, "relu", (0, 1, 2)),
}
"""Name -> epochs, epochs between checkpoints, activation, steps: neither names nor lengths are in any order."""
HAND_ROWS = [(name, step) for name in HAND_NETWORKS for step in sorted(HAND_NETWORKS[name][3], reverse=True)]
HAND_ROWS = [HAND_ROWS[(7 * place + 3) % 18] for place in range(18)]
"""The rows of a network are scattered: what reading promises does not depend on their order."""
HAND_SPLIT = [(11 * place + 5) % 18 for place in range(18)]
HAND_PARAMETERS = 1 + 9 + 10 + 10


def hand_weights(row: int) -> np.ndarray:
    """Return the parameters of one convolution of one channel and a dense layer."""
    return (np.arange(HAND_PARAMETERS, dtype=np.float32) * 5 % 13 - 6 + row) / np.float32(8)


@pytest.fixture(scope="module")
def hand_made(tmp_path_factory):
    """Files written without the code under test."""
    folder = tmp_path_factory.mktemp("hand")
    np.save(folder / "weights.npy", np.stack([hand_weights(row) for row in range(18)]))
    (folder / "layout.csv").write_text(
        "varname,start_idx,end_idx,size,shape\n"
        'sequential/conv2d/bias:0,0,1,1,"(1,)"\n'
        'sequential/conv2d/kernel:0,1,10,9,"(3, 3, 1, 1)"\n'
        'sequential/dense/bias:0,10,20,10,"(10,)"\n'
        'sequential/dense/kernel:0,20,30,10,"(1, 10)"\n'
    )
    lines = [
        ",config.activation,config.b_init,config.dataset,config.dnn_architecture,config.dropout,config.epochs,"
        "config.epochs_between_checkpoints,config.init_std,config.l2reg,config.learning_rate,config.num_layers,"
        "config.num_units,config.optimizer,config.random_seed,config.train_fraction,config.w_init,modeldir,step,"
        "test_accuracy,test_loss,train_accuracy,train_loss,laststep"
    ]
    for row, (name, step) in enumerate(HAND_ROWS):
        epochs, between, activation, _ = HAND_NETWORKS[name]
        lines.append(
            f"{name}/permanent_ckpt-{step},{activation},zeros,mnist,cnn,0.5,{epochs},{between},0.1,0.01,0.02,1,1,sgd,"
            f"7,1.0,orthogonal,{name},{step},{row / 32},{row / 16},{row / 64},{row / 8},{step == epochs}"
        )
    (folder / "metrics.csv.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    (folder / "split.csv").write_text("".join(f"{row}\n" for row in HAND_SPLIT))
    return Collection.open(folder)


def hand_train() -> set[str]:
    """Return the networks of the training half: the first half of the final rows, in the order of the split."""
    final = []
    for row in HAND_SPLIT:
        name, step = HAND_ROWS[row]
        if step == HAND_NETWORKS[name][0]:
            final.append(name)
    assert len(final) == 5
    return set(final[:2])


def hand_rows(half=None, step=None):
    """Return the rows of a half at a step, or at each network's last epoch."""
    rows = []
    for row, (name, there) in enumerate(HAND_ROWS):
        wanted = HAND_NETWORKS[name][0] if step is None else step
        if there == wanted and (half is None or (name in hand_train()) == (half == "train")):
            rows.append(row)
    return rows


@pytest.mark.parametrize("half", [None, "train", "test"])
@pytest.mark.parametrize("step", [None, 0, 1, 2, 3, 5])
def test_rows_are_chosen_as_by_hand_whatever_the_order_of_rows_and_the_length_of_networks(hand_made, half, step):
    found = hand_made.final(half) if step is None else hand_made.at(step, half)
    assert found.dtype == np.int64
    assert found.tolist() == hand_rows(half, step)


def test_epochs_and_networks_of_a_hand_made_collection(hand_made):
    assert hand_made.epochs == (0, 1, 2, 3, 5)
    seen = list(dict.fromkeys(name for name, _ in HAND_ROWS))
    assert seen != sorted(seen)
    assert hand_made.networks.tolist() == [seen.index(name) for name, _ in HAND_ROWS]
    with pytest.raises(CnnzooError, match="no checkpoints at epoch 4; there are 0, 1, 2, 3, 5"):
        hand_made.at(4)


def test_metrics_of_a_hand_made_collection_are_those_of_the_file(hand_made):
    metrics = hand_made.metrics
    assert metrics.index.tolist() == [f"{name}/permanent_ckpt-{step}" for name, step in HAND_ROWS]
    assert metrics["step"].tolist() == [step for _, step in HAND_ROWS]
    for column, unit in (("test_accuracy", 32), ("test_loss", 16), ("train_accuracy", 64), ("train_loss", 8)):
        assert metrics[column].tolist() == [row / unit for row in range(18)]


def test_a_module_computes_what_its_row_says_written_out_in_numpy(hand_made):
    """One convolution of a 5x5 image gives 2x2 values: pool them, then the dense layer."""
    image = np.random.default_rng(0).uniform(-1, 1, (5, 5)).astype(np.float32)
    for row, (name, _) in enumerate(HAND_ROWS):
        weights = hand_weights(row).astype(np.float64)
        bias, kernel, dense_bias, dense = weights[0], weights[1:10].reshape(3, 3), weights[10:20], weights[20:]
        values = [(image[i : i + 3, j : j + 3] * kernel).sum() + bias for i in (0, 2) for j in (0, 2)]
        act = {"relu": lambda value: max(value, 0.0), "tanh": np.tanh}[HAND_NETWORKS[name][2]]
        expected = dense_bias + dense * np.mean([act(value) for value in values])
        with torch.no_grad():
            logits = hand_made.module(row)(torch.from_numpy(image)[None, None])[0].numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", ["0.5", "", "end", "inf"])
def test_a_step_that_is_no_epoch_is_refused(folder, tmp_path, step):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = gzip.decompress((tmp_path / "metrics.csv.gz").read_bytes()).decode()
    assert text.count("tiny/000000,20,") == 1
    changed = text.replace("tiny/000000,20,", f"tiny/000000,{step},").encode()
    (tmp_path / "metrics.csv.gz").write_bytes(gzip.compress(changed))
    with pytest.raises(CnnzooError, match=r"`step` must be the epoch, a whole number, in every row\..*cnnzoo check"):
        Collection.open(tmp_path)


@pytest.mark.parametrize("shape", [(80, 4970), (82, 4970), (81, 4969), (81, 4971)])
def test_a_matrix_of_another_size_than_metrics_and_layout_is_refused(folder, tmp_path, shape):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    np.save(tmp_path / "weights.npy", np.zeros(shape, dtype=np.float32))
    with pytest.raises(
        CnnzooError, match=rf"weights.npy is \({shape[0]}, {shape[1]}\), but metrics.csv.gz has 81 rows"
    ):
        Collection.open(tmp_path)


@pytest.mark.parametrize("column", METRICS_COLUMNS)
def test_each_column_of_the_metrics_is_needed(folder, tmp_path, column):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    metrics = pd.read_csv(folder / "metrics.csv.gz", index_col=0).drop(columns=column)
    metrics.to_csv(tmp_path / "metrics.csv.gz")
    with pytest.raises(CnnzooError, match=f"no column {column}"):
        Collection.open(tmp_path)


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (7, 8), (90, 108), (100, 200), (3, 3)])
def test_rows_of_a_mapped_matrix_are_read_from_its_file(tmp_path, start, stop):
    matrix = np.random.default_rng(0).random((108, 7), dtype=np.float32)
    np.save(tmp_path / "weights.npy", matrix)
    mapped = open_weights(tmp_path / "weights.npy")
    for weights, expected in ((mapped, matrix), (mapped[3:], matrix[3:]), (mapped[:, 1:], matrix[:, 1:])):
        found = read_rows(weights, start, stop)
        assert np.array_equal(found, expected[start:stop])
    found = read_rows(mapped, 0, 5)
    assert not isinstance(found, np.memmap)
    assert not np.shares_memory(found, mapped)
