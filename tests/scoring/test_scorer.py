"""Scores with intervals and neighbours, on synthetic collections and against brute force."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from typer.testing import CliRunner

from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.network.module import SmallCNN
from cnnzoo.scoring import Neighbours, Question, Scorer, answer, choose_scorer
from cnnzoo.zoo import Collection
from tuned import NETWORKS, make_tuned_project, tuned_params
from zoos import STATISTICS, make_zoo

SETS = ["weights.3", STATISTICS, "hyper", f"hyper.activation+{STATISTICS}"]
KNOWING = SETS[3]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Artifacts:
    """Linear predictors, tuned on four feature sets."""
    return make_tuned_project(tmp_path_factory.mktemp("project"), SETS)


@pytest.fixture(scope="module")
def params():
    return tuned_params(SETS)


@pytest.fixture(scope="module")
def zoo(project) -> Collection:
    return Collection.open(project.zoo("tiny"))


def save_network(zoo: Collection, row: int, path: Path) -> Path:
    torch.save(zoo.module(row).state_dict(), path)
    return path


@pytest.mark.slow
def test_the_best_in_cross_validation_that_needs_weights_alone_is_chosen(project, params):
    cv = {
        name: json.loads((project.predictor("tiny", "linear", name) / "metrics.json").read_text())["cv_r2"]
        for name in SETS
        if name != "hyper"
    }
    best, _ = choose_scorer(project, params, "tiny")
    assert best.features == max(cv, key=cv.__getitem__)
    assert best.cv_r2 == max(cv.values())


def test_a_predictor_is_chosen_by_name_features_or_folder(project, params):
    folder = project.predictor("tiny", "linear", "weights.3")
    for predictor, features in (("linear", "weights.3"), (None, "weights.3"), (str(folder), None)):
        best, scorer = choose_scorer(project, params, "tiny", predictor, features)
        assert (best.predictor, best.features, scorer.features) == ("linear", "weights.3", "weights.3")


@pytest.mark.parametrize(("predictor", "features"), [("dnn", None), (None, "hyper"), ("nowhere/at/all", None)])
def test_what_is_not_there_or_needs_more_than_weights_is_told(predictor, features, project, params):
    with pytest.raises(CnnzooError, match=r"needs weights alone is not there. There are: `linear` on `weights.3`"):
        choose_scorer(project, params, "tiny", predictor, features)


def test_a_score_is_the_predictors_own_prediction_on_the_collections_features(project, params, zoo, tmp_path):
    """Stored held-out predictions are the oracle: a network's file must get the same number."""
    stored = pd.read_csv(project.predictor("tiny", "linear", STATISTICS) / "predictions.csv").iloc[:5]
    files = [save_network(zoo, row, tmp_path / f"{row}.pt") for row in stored["row"]]
    found = answer(project, params, files, Question("tiny", features=STATISTICS))
    assert np.allclose([network.predicted for network in found.networks], stored["predicted"], rtol=0, atol=1e-6)
    for network, name in zip(found.networks, stored["network"], strict=True):
        assert 0 <= network.low <= network.predicted <= network.high <= 1
        first = network.nearest[0]
        assert (first.rank, first.network) == (1, name)  # a network of the zoo is most like itself
        assert first.distance == pytest.approx(0, abs=1e-5)


def test_neighbours_are_those_of_brute_force_and_ignore_words(project, zoo):
    neighbours = Neighbours.of(project, "tiny", KNOWING)
    rng = np.random.default_rng(1)
    weights = 0.3 * rng.standard_normal((2, zoo.layout.size), dtype=np.float32)
    found = neighbours.nearest(weights, ["relu", "relu"], 4)
    tensors = zoo.layout.split(np.concatenate([zoo.weights[zoo.final()], weights]))
    parts = [tensors[v.name].reshape(NETWORKS + 2, -1) for index in (0, 3) for v in zoo.layout.layers[index]]
    table = np.column_stack(
        [f(p) for p in parts for f in (*_quantiles(0, 50, 100), lambda p: p.std(1), lambda p: p.mean(1))]
    )
    table = table[:, table[:-2].std(0) > 0] / table[:, table[:-2].std(0) > 0][:-2].std(0)
    names = zoo.metrics["modeldir"].to_numpy()[zoo.final()]
    for point, near in zip(table[-2:], found, strict=True):
        distance = np.sqrt(((table[:-2] - point) ** 2).mean(1))
        order = np.argsort(distance)[:4]
        assert [n.network for n in near] == names[order].tolist()
        assert np.allclose([n.distance for n in near], distance[order], rtol=1e-4)


def _quantiles(*percentiles: int):
    return [lambda p, q=q: np.percentile(p, q, axis=1) for q in percentiles]


def test_neighbours_do_not_change_when_hidden_units_change_places(project, zoo):
    neighbours = Neighbours.of(project, "tiny", "weights.3")
    row = zoo.weights[zoo.final()[7]].copy()
    tensors = zoo.layout.split(row)
    order = np.array([2, 0, 3, 1])
    tensors["sequential/conv2d_2/bias:0"][:] = tensors["sequential/conv2d_2/bias:0"][order]
    tensors["sequential/conv2d_2/kernel:0"][:] = tensors["sequential/conv2d_2/kernel:0"][..., order]
    tensors["sequential/dense/kernel:0"][:] = tensors["sequential/dense/kernel:0"][order]
    assert not np.array_equal(row, zoo.weights[zoo.final()[7]])
    (near,) = neighbours.nearest(row[None], [None], 1)
    assert near[0].network == "tiny/000007"
    assert near[0].distance == pytest.approx(0, abs=1e-4)


def test_both_activations_are_answered_where_the_predictor_needs_one(project, params, zoo, tmp_path):
    file = save_network(zoo, int(zoo.final()[0]), tmp_path / "n.pt")
    both = answer(project, params, [file], Question("tiny", features=KNOWING)).networks
    values = [
        answer(project, params, [file], Question("tiny", features=KNOWING, activation=word)).networks[0].predicted
        for word in ("relu", "tanh")
    ]
    assert values[0] != values[1]
    assert [network.predicted for network in both] == pytest.approx(values)
    with pytest.raises(CnnzooError, match="`--activation` is 'gelu', allowed are relu, tanh"):
        answer(project, params, [file], Question("tiny", activation="gelu"))


def test_a_network_of_another_shape_is_told(project, params, tmp_path):
    layout = layout_of(Architecture())
    row = np.zeros(layout.size, dtype=np.float32)
    torch.save(SmallCNN.from_row(row, layout, "relu").state_dict(), tmp_path / "n.pt")
    with pytest.raises(CnnzooError, match=r"`convolutions.0.bias` has shape \(16,\), wanted \(4,\)"):
        answer(project, params, [tmp_path / "n.pt"], Question("tiny"))


def test_weights_so_large_that_features_overflow_are_told(project, params, zoo):
    _, scorer = choose_scorer(project, params, "tiny", features=STATISTICS)
    weights = np.array(zoo.weights[:2])
    weights[1, -10:] = 1e30
    with pytest.raises(CnnzooError, match=r"network 1: its weights are so large \(up to 1e\+30\).*has diverged"):
        scorer.score(weights, [None, None])


def test_without_data_a_network_is_scored_all_the_same(project, params, zoo, tmp_path):
    file = save_network(zoo, int(zoo.final()[0]), tmp_path / "n.pt")
    shutil.copytree(project.root / "models", tmp_path / "bare" / "models")
    bare = Artifacts(tmp_path / "bare")
    with pytest.raises(CnnzooError, match="`--neighbours 0` scores without"):
        answer(bare, params, [file], Question("tiny"))
    (network,) = answer(bare, params, [file], Question("tiny", neighbours=0)).networks
    assert network.nearest == []
    assert network.predicted == answer(project, params, [file], Question("tiny")).networks[0].predicted


def test_damaged_results_are_told(project, params, tmp_path):
    shutil.copytree(project.root / "models", tmp_path / "models")
    broken = Artifacts(tmp_path)
    folder = broken.predictor("tiny", "linear", STATISTICS)
    (folder / "predictions.csv").write_text("row,network\n")
    with pytest.raises(CnnzooError, match=r"predictions\.csv: damaged"):
        choose_scorer(broken, params, "tiny", features=STATISTICS)
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(CnnzooError, match=r"metrics\.json: damaged"):
        choose_scorer(broken, params, "tiny")


def synthetic(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Predictions whose error grows with the prediction, from 0.005 to 0.05."""
    predicted = rng.uniform(0.2, 0.9, count)
    spread = 0.005 + 0.045 * (predicted - 0.2) / 0.7
    return pd.DataFrame({"test_accuracy": predicted + spread * rng.standard_normal(count), "predicted": predicted})


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_intervals_cover_as_often_as_they_say_everywhere(confidence):
    """Mean over 20 draws of 500 held-out networks; a third of the range each: the width follows the error."""
    covered = np.zeros((20, 3))
    for draw in range(20):
        rng = np.random.default_rng(draw)
        scorer = Scorer(Path(), "weights", layout_of(Architecture()), synthetic(rng, 500), confidence)
        new = synthetic(rng, 3000)
        predicted = new["predicted"].to_numpy()
        hit = np.abs(new["test_accuracy"].to_numpy() - predicted) <= scorer.half_width(predicted)
        third = np.clip(((predicted - 0.2) / 0.7 * 3).astype(int), 0, 2)
        covered[draw] = [hit[third == index].mean() for index in range(3)]
    assert np.abs(covered.mean() - confidence) < 0.015
    assert np.abs(covered.mean(axis=0) - confidence).max() < 0.05


def test_few_held_out_networks_give_their_largest_error_and_too_few_the_whole_range():
    held_out = pd.DataFrame({"test_accuracy": [0.1, 0.5, 0.9], "predicted": [0.2, 0.5, 0.6]})
    layout = layout_of(Architecture())
    assert Scorer(Path(), "weights", layout, held_out, 0.75).half_width(np.array([0.4])) == pytest.approx([0.3])
    assert Scorer(Path(), "weights", layout, held_out, 0.76).half_width(np.array([0.4, 0.5])).tolist() == [np.inf] * 2


def test_many_networks_get_the_intervals_that_each_gets_alone(monkeypatch):
    monkeypatch.setattr("cnnzoo.scoring.scorer.BLOCK_ROWS", 7)
    rng = np.random.default_rng(0)
    scorer = Scorer(Path(), "weights", layout_of(Architecture()), synthetic(rng, 300), 0.9)
    predicted = rng.uniform(0.2, 0.9, 30)
    assert scorer.half_width(predicted).tolist() == [float(scorer.half_width(one)[0]) for one in predicted[:, None]]


def test_a_scorer_that_is_saved_and_loaded_scores_the_same(project, params, zoo, tmp_path):
    _, scorer = choose_scorer(project, params, "tiny")
    weights, words = zoo.weights[zoo.final()[:3]], ["relu", "tanh", "relu"]
    scorer.save(tmp_path / "scorer")
    loaded = Scorer.load(tmp_path / "scorer")
    pd.testing.assert_frame_equal(loaded.score(weights, words), scorer.score(weights, words), check_exact=True)
    (tmp_path / "scorer" / "scorer.json").write_text("{}")
    with pytest.raises(CnnzooError, match="not a whole scorer"):
        Scorer.load(tmp_path / "scorer")


def test_the_command_prints_a_table_or_json(project, zoo, tmp_path):
    tensors = {name: np.ascontiguousarray(value) for name, value in zoo.layout.split(zoo.weights[1]).items()}
    safetensors.numpy.save_file(tensors, tmp_path / "n.safetensors")
    file, options = str(tmp_path / "n.safetensors"), ["--root", str(project.root), "--features", STATISTICS]
    told = CliRunner().invoke(app, ["score", file, *options, "--json", "--neighbours", "2"])
    assert told.exit_code == 0, told.output
    content = json.loads(told.output)
    assert content["collection"] == "tiny"
    assert content["confidence"] == 0.9
    assert content["predictor"]["features"] == STATISTICS
    (network,) = content["networks"]
    assert network["name"] == file
    assert [near["rank"] for near in network["nearest"]] == [1, 2]
    assert network["nearest"][0]["network"] == "tiny/000000"
    table = CliRunner().invoke(app, ["score", file, *options], terminal_width=200)
    assert table.exit_code == 0, table.output
    assert "90% interval" in table.output
    assert f"{network['predicted']:.1%}" in table.output
    wrong = CliRunner().invoke(app, ["score", str(tmp_path / "none.npy"), *options])
    assert wrong.exit_code == 1
    assert "none.npy: not there" in wrong.output


def test_a_collection_that_is_another_than_params_say_is_told(project, params, tmp_path):
    make_zoo(Artifacts(tmp_path), "tiny", 12, num_units=8)
    shutil.copytree(project.root / "models", tmp_path / "models")
    np.save(tmp_path / "n.npy", np.zeros((1, 386), dtype=np.float32))
    with pytest.raises(CnnzooError, match=r"params\.yaml says another shape"):
        answer(Artifacts(tmp_path), params, [tmp_path / "n.npy"], Question("tiny", features="weights.3"))
