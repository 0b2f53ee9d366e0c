"""Which predictor scores: files of searches made by hand, the choice worked out by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.scoring import choose_scorer
from zoos import make_params

NAME = "tiny"
STATISTICS = "wstats-layers:0,3-qts:0,50,100"
KNOWING = f"hyper.activation+{STATISTICS}"
RATE = f"hyper.learning_rate+{STATISTICS}"
BOTH = f"hyper.activation+hyper.learning_rate+{STATISTICS}"
SETS = ["hyper", "weights.3", STATISTICS, KNOWING, RATE, BOTH, "hyper+weights"]
PREDICTORS = ["linear", "catboost"]


@pytest.fixture
def artifacts(tmp_path) -> Artifacts:
    return Artifacts(tmp_path)


@pytest.fixture(scope="module")
def params():
    return make_params({NAME: 20, "other": 20}, SETS, predictors=PREDICTORS)


def write_search(
    artifacts: Artifacts, predictor: str, features: str, cv_r2: float | None, r2: float | None, collection: str = NAME
) -> Path:
    """Write the scores of a search, and held-out predictions that tell which search they are from."""
    folder = artifacts.predictor(collection, predictor, features)
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"cv_r2": cv_r2, "r2": r2, "kendall_tau": 0.5, "trials": 3}))
    table = held_out(predictor, features)
    rows = pd.DataFrame({"row": range(3), "network": [f"{collection}/00000{place}" for place in range(3)]})
    pd.concat([rows, table], axis=1).to_csv(folder / "predictions.csv", index=False)
    return folder


def held_out(predictor: str, features: str) -> pd.DataFrame:
    start = (PREDICTORS.index(predictor) * len(SETS) + SETS.index(features)) / 64
    return pd.DataFrame({"test_accuracy": [start, 0.25, 0.5], "predicted": [0.75, start, 1.0]})


Scores = tuple[float | None, float | None]
CHOICES: dict[str, tuple[dict[tuple[str, str], Scores], tuple[str, str]]] = {
    "the best in cross-validation, not on the held-out half": (
        {("linear", STATISTICS): (0.7, 0.9), ("catboost", "weights.3"): (0.8, 0.1)},
        ("catboost", "weights.3"),
    ),
    "whatever the order of predictors": (
        {("linear", STATISTICS): (0.8, 0.1), ("catboost", "weights.3"): (0.7, 0.9)},
        ("linear", STATISTICS),
    ),
    "negative scores are compared too": (
        {("linear", STATISTICS): (-0.5, 0.9), ("catboost", STATISTICS): (-0.4, -1.0)},
        ("catboost", STATISTICS),
    ),
    "an undefined score is worse than any": (
        {("linear", "weights.3"): (None, 0.9), ("linear", STATISTICS): (-3.0, -3.0)},
        ("linear", STATISTICS),
    ),
    "of two undefined ones the first of params.yaml": (
        {("catboost", STATISTICS): (None, 0.1), ("linear", "weights.3"): (None, None)},
        ("linear", "weights.3"),
    ),
    "of equal ones the first of params.yaml": (
        {("linear", STATISTICS): (0.5, 0.6), ("catboost", STATISTICS): (0.5, 0.9)},
        ("linear", STATISTICS),
    ),
    "of equal ones that with the first feature set": (
        {("linear", STATISTICS): (0.5, 0.6), ("catboost", "weights.3"): (0.5, 0.1)},
        ("catboost", "weights.3"),
    ),
    "the activation is part of a network": (
        {("linear", KNOWING): (0.6, 0.1), ("linear", STATISTICS): (0.5, 0.1)},
        ("linear", KNOWING),
    ),
    "other hyperparameters are not": (
        {
            ("linear", "hyper"): (0.99, 0.9),
            ("linear", RATE): (0.98, 0.9),
            ("linear", BOTH): (0.97, 0.9),
            ("linear", "hyper+weights"): (0.96, 0.9),
            ("linear", STATISTICS): (0.2, 0.1),
        },
        ("linear", STATISTICS),
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_scorer_is_the_one_worked_out_by_hand(artifacts, params, name):
    searches, (predictor, features) = CHOICES[name]
    for (kind, inputs), (cv_r2, r2) in searches.items():
        write_search(artifacts, kind, inputs, cv_r2, r2)
    best, scorer = choose_scorer(artifacts, params, NAME)
    assert (best.predictor, best.features, best.cv_r2, best.r2, best.kendall_tau) == (
        *(predictor, features),
        *searches[predictor, features],
        0.5,
    )
    assert scorer.features == features
    assert scorer.model_folder == artifacts.predictor(NAME, predictor, features) / "model"
    assert scorer.confidence == params.evaluate.confidence == 0.9
    pd.testing.assert_frame_equal(scorer.held_out, held_out(predictor, features), check_exact=True)
    assert scorer.layout == layout_of(Architecture())


def write_all(artifacts: Artifacts) -> None:
    """The better the later in params.yaml."""
    for place, (features, predictor) in enumerate((f, p) for f in SETS for p in PREDICTORS):
        write_search(artifacts, predictor, features, place / 20, 1 - place / 20)


@pytest.mark.parametrize(
    ("predictor", "features", "chosen"),
    [
        (None, None, ("catboost", KNOWING)),
        ("linear", None, ("linear", KNOWING)),
        (None, "weights.3", ("catboost", "weights.3")),
        ("linear", "weights.3", ("linear", "weights.3")),
        ("linear", STATISTICS, ("linear", STATISTICS)),
        ("catboost", STATISTICS, ("catboost", STATISTICS)),
    ],
)
def test_names_limit_the_choice(artifacts, params, predictor, features, chosen):
    write_all(artifacts)
    best, scorer = choose_scorer(artifacts, params, NAME, predictor, features)
    assert (best.predictor, best.features) == chosen
    pd.testing.assert_frame_equal(scorer.held_out, held_out(*chosen), check_exact=True)


def test_a_predictor_may_be_given_as_its_folder(artifacts, params, monkeypatch):
    write_all(artifacts)
    folder = artifacts.predictor(NAME, "linear", "weights.3")
    monkeypatch.chdir(folder.parent)
    for given in (str(folder), folder.name, f"{folder}/", f"../linear/{folder.name}"):
        best, _ = choose_scorer(artifacts, params, NAME, given)
        assert (best.predictor, best.features) == ("linear", "weights.3")
    with pytest.raises(CnnzooError, match="is not there"):
        choose_scorer(artifacts, params, NAME, str(folder), STATISTICS)


@pytest.mark.parametrize("features", ["hyper", RATE, BOTH, "hyper+weights", "probes", "wstats-glob"])
def test_what_needs_more_than_weights_or_was_not_tuned_is_not_offered(artifacts, params, features):
    write_all(artifacts)
    with pytest.raises(CnnzooError, match="that needs weights alone is not there") as told:
        choose_scorer(artifacts, params, NAME, features=features)
    offered = str(told.value).partition("There are: ")[2]
    assert offered == ", ".join(f"`{p}` on `{f}`" for f in ("weights.3", STATISTICS, KNOWING) for p in PREDICTORS)


def test_a_search_that_params_do_not_name_or_that_is_not_done_is_passed_over(artifacts, params):
    write_search(artifacts, "linear", STATISTICS, 0.1, 0.1)
    (write_search(artifacts, "catboost", STATISTICS, 0.9, 0.9) / "metrics.json").unlink()
    folder = artifacts.predictor(NAME, "dnn", STATISTICS)
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"cv_r2": 1.0, "r2": 1.0, "kendall_tau": 1.0}')
    best, _ = choose_scorer(artifacts, params, NAME)
    assert (best.predictor, best.cv_r2) == ("linear", 0.1)


def test_each_collection_has_its_own_scorer(artifacts, params):
    write_search(artifacts, "linear", STATISTICS, 0.1, 0.1)
    write_search(artifacts, "catboost", "weights.3", 0.9, 0.9, collection="other")
    assert choose_scorer(artifacts, params, NAME)[0].features == STATISTICS
    assert choose_scorer(artifacts, params, "other")[0].features == "weights.3"
    with pytest.raises(CnnzooError, match="no collection `third`"):
        choose_scorer(artifacts, params, "third")


def test_without_any_search_it_is_said_how_to_make_one(artifacts, params):
    with pytest.raises(
        CnnzooError, match=r"a predictor that needs weights alone is not there.*`dvc repro search` makes"
    ):
        choose_scorer(artifacts, params, NAME)
