"""The answers of `cnnzoo score`, computed again from the files of a project without the code of scoring.

Predictions by the logistic function of a saved predictor's coefficients and of features written out in NumPy; intervals
by plain loops over the held-out predictions; neighbours by brute force. The held-out predictions are made up: more than
a search would leave, other ones for each feature set.

Shape letters: n networks, P parameters, K networks of the zoo or held-out ones, F features.
"""

import csv
import gzip
import io
import json
import math
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from typer.testing import CliRunner

from cnnzoo import predictors
from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.features import read_features, write_features
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.scoring import Question, Scorer, answer, network_of
from cnnzoo.scoring.neighbours import Neighbours
from cnnzoo.zoo import Collection
from tuned import tuned_params, write_params
from zoos import STATISTICS, make_zoo

NAME = "tiny"
NETWORKS = 40
CONFIDENCE = "0.9"
"""That of `tuned_params`."""
KNOWING = f"hyper.activation+{STATISTICS}"
SETS = ["weights.3", STATISTICS, KNOWING, "probes"]
NEEDS_ACTIVATION = (KNOWING, "probes")
BIASES = {0: slice(0, 4), 1: slice(40, 44), 2: slice(188, 192), 3: slice(336, 346)}
KERNELS = {0: slice(4, 40), 1: slice(44, 188), 2: slice(192, 336), 3: slice(346, 386)}
"""Where the layers of a network of 4 channels lie in its row: 386 parameters."""
SHAPES = {
    "conv2d": ((4,), (3, 3, 1, 4)),
    "conv2d_1": ((4,), (3, 3, 4, 4)),
    "conv2d_2": ((4,), (3, 3, 4, 4)),
    "dense": ((10,), (4, 10)),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Artifacts:
    """A zoo whose four scores differ, and a linear predictor on each feature set."""
    artifacts = Artifacts(tmp_path_factory.mktemp("project"))
    zoo = make_zoo(artifacts, NAME, NETWORKS)
    tell_scores_apart(zoo.path / "metrics.csv.gz")
    zoo = Collection.open(zoo.path)
    write_features(zoo, SETS, artifacts.features(NAME))
    train = zoo.final("train")
    for place, features in enumerate(SETS):
        table = read_features(zoo, artifacts.features(NAME), features, train)
        model = predictors.REGISTRY["linear"](l2=1e-3).fit(table, zoo.metrics["test_accuracy"].to_numpy()[train])
        folder = artifacts.predictor(NAME, "linear", features)
        folder.mkdir(parents=True)
        predictors.save(model, folder / "model")
        held_out(place).to_csv(folder / "predictions.csv", index=False)
        scores = {"cv_r2": 0.5 + place / 10, "r2": 0.9 - place / 10, "kendall_tau": 0.25 + place / 100}
        (folder / "metrics.json").write_text(json.dumps(scores))
    write_params(artifacts.params, SETS)
    return artifacts


@pytest.fixture(scope="module")
def zoo(project) -> Collection:
    return Collection.open(project.zoo(NAME))


@pytest.fixture(scope="module")
def params():
    return tuned_params(SETS)


def tell_scores_apart(path: Path) -> None:
    """Give the training accuracy and the losses values of their own."""
    header, *rows = csv.reader(io.StringIO(gzip.decompress(path.read_bytes()).decode()))
    test = header.index("test_accuracy")
    for row in rows:
        row[test + 1 : test + 4] = [str(3 - float(row[test])), str(1 - float(row[test])), str(4 - float(row[test]))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def held_out(place: int, count: int = 300) -> pd.DataFrame:
    """Return made-up predictions whose errors grow with the prediction; those of the first set are enormous."""
    rng = np.random.default_rng(place)
    predicted = rng.uniform(0, 1, count)
    spread = (0.6 if place == 0 else 0.01 + 0.2 * predicted) * rng.standard_normal(count)
    networks = [f"{NAME}/{network:06d}" for network in range(count)]
    accuracy = np.clip(predicted + spread, 0, 1)
    return pd.DataFrame(
        {"row": np.arange(count), "network": networks, "test_accuracy": accuracy, "predicted": predicted}
    )


def new_networks(count: int = 7) -> tuple[np.ndarray, list[str]]:
    """Return rows (n, P) that no zoo has, good and bad ones, and activations in no regular order."""
    rng = np.random.default_rng(99)
    rows = 0.2 * rng.standard_normal((count, 386))
    rows[:, KERNELS[3]] *= np.linspace(0.3, 4, count)[:, None]
    return rows.astype(np.float32), (["tanh", "relu", "relu", "tanh", "relu", "tanh", "tanh"] * count)[:count]


def describe_by_hand(ranges: list[slice], percentiles: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    """Return percentiles, standard deviation and mean of each range (n, F)."""
    columns = []
    for span in ranges:
        values = rows[:, span].astype(np.float64)
        columns += [np.percentile(values, q, axis=1) for q in percentiles]
        columns += [values.std(axis=1), values.mean(axis=1)]
    return np.stack(columns, axis=1)


def statistics_by_hand(rows: np.ndarray) -> np.ndarray:
    return describe_by_hand([BIASES[0], KERNELS[0], BIASES[3], KERNELS[3]], (0, 50, 100), rows)


def numbers_by_hand(features: str, rows: np.ndarray) -> np.ndarray:
    """Return what a linear predictor sees beside words, (n, F)."""
    return rows[:, 336:386].astype(np.float64) if features == "weights.3" else statistics_by_hand(rows)


def predict_by_hand(project: Artifacts, features: str, numbers: np.ndarray, activations: list[str]) -> np.ndarray:
    """Return the logistic function of the scaled numbers, then the one-hot words, times the saved coefficients."""
    folder = project.predictor(NAME, "linear", features) / "model"
    saved, arrays = (
        json.loads((folder / "predictor.json").read_text()),
        safetensors.numpy.load_file(folder / "arrays.safetensors"),
    )
    inputs = (numbers - arrays["mean"]) / arrays["scale"]
    if features == KNOWING:
        hot = [[float(word == known) for known in ("relu", "tanh")] for word in activations]
        inputs = np.concatenate([inputs, hot], axis=1)
    return 1 / (1 + np.exp(-(inputs @ arrays["coef"] + saved["learned"]["intercept"])))


def width_by_hand(predicted: float, known: pd.DataFrame, confidence: str) -> float:
    """Return the quantile of the absolute errors on the held-out networks with the nearest predictions."""
    share = Fraction(confidence)
    pairs = []
    for accuracy, prediction in zip(known["test_accuracy"], known["predicted"], strict=True):
        pairs.append((abs(prediction - predicted), abs(accuracy - prediction)))
    pairs.sort(key=lambda pair: pair[0])
    count = min(len(pairs), max(50, math.ceil(share / (1 - share)), round(len(pairs) / 5)))
    rank = math.ceil((count + 1) * share)
    return sorted(error for _, error in pairs[:count])[rank - 1] if rank <= count else math.inf


def near_by_hand(zoo: Collection, table: np.ndarray, point: np.ndarray, count: int) -> list[tuple[int, str, float]]:
    """Return rank, name and test accuracy of the final networks (K, F) that are nearest, by a loop."""
    with gzip.open(zoo.path / "metrics.csv.gz", "rt", newline="") as file:
        final = [row for row in csv.DictReader(file) if row["step"] == row["config.epochs"]]
    spread = [table[:, column].std() for column in range(table.shape[1])]
    found = []
    for row, values in zip(final, table, strict=True):
        squares = [((a - b) / s) ** 2 for a, b, s in zip(values, point, spread, strict=True) if s > 0]
        found.append((math.sqrt(sum(squares) / len(squares)), row["modeldir"], float(row["test_accuracy"])))
    found.sort()
    return [(rank, name, accuracy, distance) for rank, (distance, name, accuracy) in enumerate(found[:count], start=1)]


def neighbour_table(zoo: Collection, features: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the space in which networks are compared: of the zoo (K, F) and of given ones (n, F)."""
    final = np.load(zoo.path / "weights.npy")[1::2]
    if features == "weights.3":  # raw weights are no space: statistics of all layers stand in
        ranges = [part[layer] for layer in range(4) for part in (BIASES, KERNELS)]
        return tuple(describe_by_hand(ranges, (0, 25, 50, 75, 100), table) for table in (final, rows))
    return statistics_by_hand(final), statistics_by_hand(rows)


# --- networks in files, written with the libraries themselves ----------------------------------------------------


def tensors_of(row: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return bias and kernel of each layer in the published order of axes."""
    return {
        name: (row[BIASES[layer]].reshape(bias), row[KERNELS[layer]].reshape(kernel))
        for layer, (name, (bias, kernel)) in enumerate(SHAPES.items())
    }


def named(row: np.ndarray) -> dict[str, np.ndarray]:
    return {
        f"sequential/{name}/{kind}:0": np.ascontiguousarray(value)
        for name, pair in tensors_of(row).items()
        for kind, value in zip(("bias", "kernel"), pair, strict=True)
    }


def torch_state(row: np.ndarray, names: tuple[str, ...] = ("c.1", "c.2", "c.10", "out")) -> dict[str, torch.Tensor]:
    """Return torch's order of axes: OIHW and (out, in)."""
    state = {}
    for name, (bias, kernel) in zip(names, tensors_of(row).values(), strict=True):
        turned = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(turned))
        state[f"{name}.bias"] = torch.from_numpy(bias.copy())
    return state


def keras_config(activation: str) -> dict:
    layers = [
        {"class_name": "Conv2D", "config": {"name": name, "activation": activation, "strides": [2, 2]}}
        for name in ("conv2d", "conv2d_1", "conv2d_2")
    ]
    dense = {"class_name": "Dense", "config": {"name": "dense", "activation": "softmax"}}
    return {"class_name": "Sequential", "config": {"layers": [*layers, dense]}}


def write_h5(path: Path, row: np.ndarray, activation: str) -> None:
    """As Keras 2 saves a whole model, with the optimizer's state beside it."""
    with h5py.File(path, "w") as file:
        for name, (bias, kernel) in tensors_of(row).items():
            file[f"model_weights/{name}/{name}/kernel:0"] = kernel
            file[f"model_weights/{name}/{name}/bias:0"] = bias
        file["optimizer_weights/Adam/iterations:0"] = np.int64(3)
        file.attrs["model_config"] = json.dumps(keras_config(activation))


def write_keras(path: Path, row: np.ndarray, activation: str) -> None:
    """As Keras 3 saves a whole model."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, (bias, kernel) in tensors_of(row).items():
            file[f"layers/{name}/vars/0"] = kernel
            file[f"layers/{name}/vars/1"] = bias
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", content.getvalue())
        archive.writestr("config.json", json.dumps(keras_config(activation)))


WRITERS = {
    "n.npy": lambda path, row, _: np.save(path, row),
    "n.npz": lambda path, row, _: np.savez(path, **named(row)),
    "n.safetensors": lambda path, row, _: safetensors.numpy.save_file(named(row), path),
    "n.pt": lambda path, row, _: torch.save(torch_state(row), path),
    "n.pth": lambda path, row, _: torch.save({"epoch": 1, "model_state_dict": torch_state(row)}, path),
    "n.h5": write_h5,
    "n.keras": write_keras,
}
TELLING = ("n.h5", "n.keras")
"""The files that tell the activation."""


def write_telling(folder: Path, rows: np.ndarray, activations: list[str]) -> list[Path]:
    """Write a network a file; each tells its activation."""
    files = [folder / f"{place}.{('h5', 'keras')[place % 2]}" for place in range(len(rows))]
    for path, row, activation in zip(files, rows, activations, strict=True):
        WRITERS[f"n{path.suffix}"](path, row, activation)
    return files


# --- one network, several networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["weights.3", STATISTICS, KNOWING])
def test_predictions_are_those_written_out_from_the_predictors_files(project, params, features, tmp_path):
    rows, activations = new_networks()
    files = write_telling(tmp_path, rows, activations)
    found = answer(project, params, files, Question(NAME, features=features, neighbours=0))
    expected = predict_by_hand(project, features, numbers_by_hand(features, rows), activations)
    assert np.ptp(expected) > 0.3
    assert [network.name for network in found.networks] == [str(path) for path in files]
    np.testing.assert_allclose([network.predicted for network in found.networks], expected, rtol=0, atol=1e-5)


def test_predictions_from_probes_are_those_of_the_stored_features(project, params, zoo, tmp_path):
    """Both activations; as oracle serve features that were computed for the whole zoo and stored."""
    places = [30, 3, 7, 20, 8]
    final = zoo.final()
    table = pd.read_parquet(project.features(NAME) / "probes.parquet").to_numpy(dtype=np.float64)[final]
    activations = zoo.metrics["config.activation"].to_numpy()[final[places]].tolist()
    assert set(activations) == {"relu", "tanh"}
    files = write_telling(tmp_path, zoo.weights[final[places]], activations)
    found = answer(project, params, files, Question(NAME, features="probes", neighbours=2)).networks
    expected = predict_by_hand(project, "probes", table[places], activations)
    np.testing.assert_allclose([network.predicted for network in found], expected, rtol=0, atol=2e-5)
    for place, network in zip(places, found, strict=True):
        # Some features are rounding noise (singular values beyond the rank), so distances are compared coarsely.
        second = near_by_hand(zoo, table, table[place], 2)[1]
        first = network.nearest[0]
        assert first.network == f"{NAME}/{place:06d}"
        assert first.distance < second[3] / 2


@pytest.mark.parametrize("features", ["weights.3", STATISTICS, KNOWING])
def test_intervals_are_those_of_the_held_out_predictions(project, params, features, tmp_path):
    """For the first set the errors are so large that both ends reach their bounds."""
    rows, activations = new_networks()
    files = write_telling(tmp_path, rows, activations)
    found = answer(project, params, files, Question(NAME, features=features, neighbours=0))
    assert found.confidence == float(CONFIDENCE)
    known = held_out(SETS.index(features))
    for network in found.networks:
        width = width_by_hand(network.predicted, known, CONFIDENCE)
        assert network.low == pytest.approx(max(0, network.predicted - width), abs=1e-9)
        assert network.high == pytest.approx(min(1, network.predicted + width), abs=1e-9)
    if features == "weights.3":
        assert {network.low for network in found.networks} & {0.0}
        assert {network.high for network in found.networks} & {1.0}


@pytest.mark.parametrize("features", ["weights.3", STATISTICS, KNOWING])
@pytest.mark.parametrize("count", [1, 4])
def test_neighbours_are_those_of_brute_force(project, params, zoo, features, count, tmp_path):
    rows, activations = new_networks()
    files = write_telling(tmp_path, rows, activations)
    found = answer(project, params, files, Question(NAME, features=features, neighbours=count)).networks
    table, points = neighbour_table(zoo, features, rows)
    for network, point in zip(found, points, strict=True):
        near = near_by_hand(zoo, table, point, count)
        assert [(n.rank, n.network, n.test_accuracy) for n in network.nearest] == [entry[:3] for entry in near]
        np.testing.assert_allclose([n.distance for n in network.nearest], [entry[3] for entry in near], rtol=1e-4)


def test_features_that_vary_by_rounding_only_have_no_say(zoo):
    """A column that is constant but for its last bits would otherwise weigh as much as one that varies."""
    rows = zoo.final()
    rng = np.random.default_rng(5)
    varying = rng.uniform(0, 1, (len(rows), 2))
    rounding = 3 + 1e-7 * rng.standard_normal((len(rows), 1))
    names = ["a", "b", "rounding"]
    space = Neighbours(zoo, "probes", pd.DataFrame(np.hstack([varying, rounding]), columns=names, index=rows))
    columns, scale, scaled = space._numbers
    assert columns == ["a", "b"]
    np.testing.assert_allclose(scale, varying.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaled, varying / varying.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("features", ["weights.3", KNOWING, "probes"])
def test_several_networks_get_the_answers_that_each_gets_alone_in_any_order(project, params, features, tmp_path):
    rows, activations = new_networks(4)
    files = write_telling(tmp_path, rows, activations)
    question = Question(NAME, features=features, neighbours=2)
    alone = {path: answer(project, params, [path], question).networks for path in files}
    for order in (files[::-1], [files[2], files[0], files[2]]):
        together = answer(project, params, order, question).networks
        assert [network.name for network in together] == [str(path) for path in order]
        for path, network in zip(order, together, strict=True):
            (one,) = alone[path]
            assert [near.network for near in network.nearest] == [near.network for near in one.nearest]
            for name in ("predicted", "low", "high"):
                assert getattr(network, name) == pytest.approx(getattr(one, name), abs=1e-6)


def test_the_activation_matters_to_the_predictors_that_look_at_it(project, params, tmp_path):
    """So that the tests above would notice if one network got another's."""
    rows, _ = new_networks(2)
    np.save(tmp_path / "n.npy", rows[1])
    for features in SETS:
        questions = [Question(NAME, features=features, activation=word, neighbours=0) for word in ("relu", "tanh")]
        relu, tanh = (answer(project, params, [tmp_path / "n.npy"], one).networks[0].predicted for one in questions)
        assert (abs(relu - tanh) > 1e-4) == (features in NEEDS_ACTIVATION)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gets_the_answer_of_the_row_that_is_in_it(project, params, name, activation, tmp_path):
    row = new_networks()[0][3]
    WRITERS[name](tmp_path / name, row, activation)
    told = None if name in TELLING else activation
    question = Question(NAME, features=KNOWING, activation=told, neighbours=1)
    (network,) = answer(project, params, [tmp_path / name], question).networks
    (expected,) = predict_by_hand(project, KNOWING, statistics_by_hand(row[None]), [activation])
    assert network.predicted == pytest.approx(expected, abs=1e-5)
    assert network.name == str(tmp_path / name)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", WRITERS)
def test_what_a_file_tells_of_its_activation_is_used_and_must_not_be_contradicted(
    project, params, name, activation, tmp_path
):
    WRITERS[name](tmp_path / name, new_networks()[0][3], activation)
    files = [tmp_path / name]
    other = {"relu": "tanh", "tanh": "relu"}
    if name in TELLING:
        answer(project, params, files, Question(NAME, features=KNOWING, activation=activation))
        contradiction = f"{name}: its file says {activation}, `--activation` says {other[activation]}"
        with pytest.raises(CnnzooError, match=contradiction):
            answer(project, params, files, Question(NAME, activation=other[activation]))
    else:
        found = answer(project, params, files, Question(NAME, features=KNOWING)).networks
        assert [(network.name, network.activation, network.assumed) for network in found] == [
            (str(files[0]), "relu", True),
            (str(files[0]), "tanh", True),
        ]
        for network in found:
            question = Question(NAME, features=KNOWING, activation=network.activation)
            (asked,) = answer(project, params, files, question).networks
            assert [near.network for near in network.nearest] == [near.network for near in asked.nearest]
            for end in ("predicted", "low", "high"):
                assert getattr(network, end) == pytest.approx(getattr(asked, end), abs=1e-9)


def test_the_option_speaks_for_the_files_that_do_not_tell(project, params, tmp_path):
    """A file that tells, a matrix that does not: without the option each network of the matrix has both answers."""
    rows, _ = new_networks(4)
    write_keras(tmp_path / "told.keras", rows[0], "tanh")
    np.save(tmp_path / "matrix.npy", rows[1:])
    files = [tmp_path / "told.keras", tmp_path / "matrix.npy"]
    found = answer(project, params, files, Question(NAME, features=KNOWING, activation="tanh", neighbours=0)).networks
    assert [network.name for network in found] == [str(files[0]), *(f"{files[1]}[{place}]" for place in range(3))]
    expected = predict_by_hand(project, KNOWING, statistics_by_hand(rows), ["tanh"] * 4)
    np.testing.assert_allclose([network.predicted for network in found], expected, rtol=0, atol=1e-5)
    both = answer(project, params, files, Question(NAME, features=KNOWING, neighbours=0)).networks
    assert [network.activation for network in both] == ["tanh", *["relu", "tanh"] * 3]
    assert [network.assumed for network in both] == [False, *[True] * 6]
    expected = predict_by_hand(
        project, KNOWING, statistics_by_hand(rows[[0, 1, 1, 2, 2, 3, 3]]), [network.activation for network in both]
    )
    np.testing.assert_allclose([network.predicted for network in both], expected, rtol=0, atol=1e-5)


# --- intervals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "confidence"),
    [
        *((300, "0.5"), (300, "0.9"), (300, "0.95"), (1000, "0.9"), (251, "0.8"), (40, "0.9"), (3, "0.75"), (3, "0.7")),
        *((400, "0.99"), (2000, "0.995"), (99, "0.99"), (19, "0.95"), (1, "0.5")),
        *((98, "0.99"), (18, "0.95"), (5, "0.9"), (2, "0.75")),  # too few: the whole range
    ],
)
def test_a_half_width_is_the_quantile_of_the_errors_of_the_nearest_predictions(networks, confidence):
    known = held_out(1, networks)
    scorer = Scorer(Path(), "weights", layout_of(Architecture()), known, float(confidence))
    predicted = np.array([0.0, 0.13, 0.5, 0.77, 1.0])
    expected = [width_by_hand(value, known, confidence) for value in predicted]
    assert scorer.half_width(predicted).tolist() == expected
    assert math.isinf(expected[0]) == ((networks, confidence) in {(98, "0.99"), (18, "0.95"), (5, "0.9"), (2, "0.75")})


def test_the_heading_gives_the_confidence_without_rounding(project, params, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    np.save(tmp_path / "n.npy", new_networks()[0])
    text = (project.params).read_text()
    assert "confidence: 0.9" in text
    shutil.copytree(project.root, tmp_path / "project")
    strict = Artifacts(tmp_path / "project")
    strict.params.write_text(text.replace("confidence: 0.9", "confidence: 0.975"))
    assert "97.5% interval" in run(strict, tmp_path / "n.npy", "--features", STATISTICS)


def test_without_enough_held_out_networks_the_answer_is_the_whole_range(project, params, tmp_path):
    shutil.copytree(project.root, tmp_path / "project")
    few = Artifacts(tmp_path / "project")
    held_out(1, 5).to_csv(few.predictor(NAME, "linear", STATISTICS) / "predictions.csv", index=False)
    np.save(tmp_path / "n.npy", new_networks()[0])
    found = answer(few, params, [tmp_path / "n.npy"], Question(NAME, features=STATISTICS))
    assert {(network.low, network.high) for network in found.networks} == {(0.0, 1.0)}
    assert json.loads(found.json())["networks"][0]["high"] == 1


# --- the command, and what people read ----------------------------------------------------------------------------


def run(project: Artifacts, *arguments: object) -> str:
    told = CliRunner().invoke(app, ["score", *map(str, arguments), "--root", str(project.root)], terminal_width=300)
    assert told.exit_code == 0, told.output
    return told.output


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_command_tells_what_was_computed_by_hand(project, zoo, activation, tmp_path, monkeypatch):
    """As JSON, and as a table with percentages of one decimal."""
    monkeypatch.setenv("COLUMNS", "300")
    rows = new_networks(3)[0]
    np.save(tmp_path / "m.npy", rows)
    arguments = (tmp_path / "m.npy", "--features", KNOWING, "--activation", activation, "--neighbours", 2)
    content = json.loads(run(project, *arguments, "--json"))
    assert (content["collection"], content["confidence"]) == (NAME, 0.9)
    place = SETS.index(KNOWING)
    assert content["predictor"] == {
        "predictor": "linear",
        "features": KNOWING,
        "cv_r2": 0.5 + place / 10,
        "r2": 0.9 - place / 10,
        "kendall_tau": 0.25 + place / 100,
    }
    table = run(project, *arguments)
    assert f"linear on {KNOWING}, learned from {NAME}" in table
    assert "90% interval" in table
    lines = [line for line in table.splitlines() if "│" in line and "network" not in line]
    expected = predict_by_hand(project, KNOWING, statistics_by_hand(rows), [activation] * 3)
    space, points = neighbour_table(zoo, KNOWING, rows)
    for index, network in enumerate(content["networks"]):
        assert network["name"] == f"{tmp_path / 'm.npy'}[{index}]"
        assert network["predicted"] == pytest.approx(expected[index], abs=1e-5)
        width = width_by_hand(network["predicted"], held_out(place), CONFIDENCE)
        low, high = max(0, network["predicted"] - width), min(1, network["predicted"] + width)
        assert (network["low"], network["high"]) == pytest.approx((low, high), abs=1e-9)
        near = near_by_hand(zoo, space, points[index], 2)
        assert [(n["rank"], n["network"], n["test_accuracy"]) for n in network["nearest"]] == [n[:3] for n in near]
        first, second = lines[2 * index : 2 * index + 2]
        for part in (f"m.npy[{index}]", f"{network['predicted']:.1%}", f"{low:.1%} to {high:.1%}"):
            assert part in first
        for line, (rank, name, accuracy, _) in zip((first, second), near, strict=True):
            assert f"{rank}. {name} ({accuracy:.1%})" in line


def test_the_command_asks_the_first_of_the_collections_unless_told_another(project, tmp_path):
    shutil.copytree(project.root, tmp_path / "project")
    two = Artifacts(tmp_path / "project")
    text = two.params.read_text()
    assert f"collections: [{NAME}]" in text
    text = text.replace(f"collections: [{NAME}]", f"collections: [{NAME}, other]")
    shape = "{dataset: mnist5k, networks: 9, minibatch: 64, num_units: 4, num_layers: 3}"
    two.params.write_text(text.replace("populations:\n", f"populations:\n  other: {shape}\n"))
    np.save(tmp_path / "n.npy", new_networks()[0])
    content = json.loads(run(two, tmp_path / "n.npy", "--features", STATISTICS, "--json"))
    assert content["collection"] == NAME
    for folder in ("data/zoo", "data/features", "models/predictors"):
        shutil.move(two.root / folder / NAME, two.root / folder / "other")
    arguments = (tmp_path / "n.npy", "--features", STATISTICS, "--json", "--collection", "other")
    moved = json.loads(run(two, *arguments))
    assert moved["collection"] == "other"
    assert [n["predicted"] for n in moved["networks"]] == [n["predicted"] for n in content["networks"]]


def test_the_command_names_three_neighbours_by_default_and_none_on_request(project, tmp_path):
    np.save(tmp_path / "n.npy", new_networks()[0])
    arguments = (tmp_path / "n.npy", "--features", STATISTICS, "--json")
    for options, count in (((), 3), (("--neighbours", 0), 0), (("--neighbours", 5), 5), (("--neighbours", 99), 40)):
        content = json.loads(run(project, *arguments, *options))
        assert [len(network["nearest"]) for network in content["networks"]] == [count] * 7


def test_the_example_is_the_first_network_after_its_last_epoch(zoo):
    example = network_of(zoo)
    assert (example.name, example.activation) == (f"{NAME}/000000", "relu")
    np.testing.assert_array_equal(example.row, np.load(zoo.path / "weights.npy")[1])


def test_each_file_and_row_is_answered_on_its_own(project, params, tmp_path):
    rows, activations = new_networks(2)
    first, second = write_telling(tmp_path, rows, activations)
    matrix, broken = tmp_path / "matrix.npy", tmp_path / "broken.h5"
    np.save(matrix, np.stack([rows[0], np.full_like(rows[0], np.inf)]))
    broken.write_bytes(b"x")
    question = Question(NAME, features="weights.3", neighbours=0)
    found = answer(project, params, [first, broken, matrix, second], question)
    assert [network.name for network in found.networks] == [str(first), f"{matrix}[0]", str(second)]
    assert [fault.split(":")[0] for fault in found.failed] == [str(broken), str(matrix)]
    assert "row 1" in found.failed[1]
    assert json.loads(found.json())["failed"] == list(found.failed)
    arguments = ["score", str(first), str(broken), "--root", str(project.root), "--features", "weights.3", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert [network["name"] for network in json.loads(result.stdout)["networks"]] == [str(first)]
    assert f"error: not scored:\n  - {broken}: " in result.stderr


def test_if_no_file_can_be_scored_all_are_named(project, params, tmp_path):
    for name in ("a.h5", "b.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CnnzooError, match=r"a\.h5: empty.*\n.*b\.pt: empty"):
        answer(project, params, [tmp_path / "a.h5", tmp_path / "b.pt"], Question(NAME, features="weights.3"))
