"""A study of two synthetic collections for the report to show, and the report's figures as matplotlib objects.

Every number is another one, so that a figure or a table that takes a wrong column, row, epoch, search or collection
shows other numbers. `north` has searches of all kinds: its best one sees weights and hyperparameters, the published
recipe fails, one hyperparameter alone beats all of them together. In `south` the published recipe is best.
"""

from collections.abc import Collection as Some
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from builders import make_recipe, make_shards
from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.features import write_features
from cnnzoo.report import write_report
from cnnzoo.zoo import Collection, assemble
from cnnzoo.zoo.recipes import Recipe
from zoos import make_params

Search = tuple[str, str]
RECIPE: Search = ("catboost", "wstats-layers:0,1,2,3-qts:0,25,50,75,100")
FEWER = "wstats-layers:3-qts:0,50,100"
ACTIVATION_AND_PROBES = "hyper.activation+probes"
EPOCHS = (0, 1, 2, 3, 20, 40, 60, 80, 86)
ENDS = ("", "_low", "_high")

FEATURES = {
    "weights": ("all weights", "weights"),
    "weights.3": ("weights of layer 3", "weights"),
    RECIPE[1]: ("statistics of layers 0–3", "weights"),
    "wstats-glob": ("statistics of all weights", "weights"),
    ACTIVATION_AND_PROBES: ("activation + responses to synthetic images", "weights"),
    "hyper+weights": ("hyperparameters + all weights", "both"),
    "hyper": ("hyperparameters", "hyperparameters"),
    "hyper.learning_rate": ("learning rate alone", "hyperparameters"),
}
"""What a reader is told of a feature set: its name, and the kind of knowledge it is."""
PREDICTORS = {"linear": "Logit-linear", "catboost": "CatBoost", "dnn": "DNN", "stack": "Stacked"}
KIND_WORDS = {
    "weights": "weights only",
    "both": "weights and hyperparameters",
    "hyperparameters": "hyperparameters only",
}
NORTH = {
    ("dnn", "hyper+weights"): 0.99,
    ("stack", ACTIVATION_AND_PROBES): 0.95,
    ("catboost", "hyper+weights"): 0.94,
    ("catboost", ACTIVATION_AND_PROBES): 0.93,
    ("dnn", ACTIVATION_AND_PROBES): 0.92,
    ("linear", "hyper+weights"): 0.91,
    ("dnn", RECIPE[1]): 0.90,
    ("stack", RECIPE[1]): 0.89,
    ("catboost", "weights"): 0.88,
    ("dnn", "weights"): 0.86,
    ("linear", ACTIVATION_AND_PROBES): 0.84,
    ("catboost", "wstats-glob"): 0.80,
    ("dnn", "wstats-glob"): 0.78,
    ("linear", "wstats-glob"): 0.74,
    ("catboost", "hyper.learning_rate"): 0.70,
    ("dnn", "weights.3"): 0.60,
    ("catboost", "hyper"): 0.55,
    ("linear", "weights"): 0.50,
    ("dnn", "hyper"): 0.45,
    ("linear", "hyper"): 0.30,
    ("linear", "weights.3"): -0.05,
    RECIPE: -0.40,
}
"""R2 of the searches of `north`, best first."""
BEST_NORTH, BASELINE_NORTH = ("stack", ACTIVATION_AND_PROBES), ("catboost", "hyper")
ONLY_NORTH = BEST_NORTH
HOME_ONLY = "weights"
"""Networks of another collection do not fit predictors on these features."""
INPUTS = {
    "weights+hyper+accuracy": "weights + hyperparameters + accuracy so far",
    "weights+accuracy": "weights + accuracy so far",
    "weights": "weights",
    "hyper+accuracy": "hyperparameters + accuracy so far",
    "hyper": "hyperparameters",
    "accuracy": "accuracy so far",
    "accuracy as it is": "accuracy so far, taken as it is",
}
"""Inputs of forecasts, and what a reader is told of them."""
SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Study:
    """A project with all that the report reads, and its parameters."""

    artifacts: Artifacts
    params: Params

    def zoo(self, name: str) -> Collection:
        """Open a collection."""
        return Collection.open(self.artifacts.zoo(name))

    def final(self, name: str) -> pd.DataFrame:
        """The rows of the last epoch in the order of the matrix, with their number in `row`."""
        metrics = self.zoo(name).metrics.reset_index(drop=True)
        final = metrics[metrics["step"] == metrics["config.epochs"]]
        return final.rename_axis("row").reset_index()

    def table(self, path: Path) -> pd.DataFrame:
        """Read a CSV file with all digits."""
        return pd.read_csv(path, float_precision="round_trip")

    def scores(self, name: str) -> pd.DataFrame:
        """The evaluation's scores of a collection, best R2 first."""
        scores = self.table(self.artifacts.evaluation / "scores.csv")
        return scores[scores["collection"] == name].sort_values("r2", ascending=False, ignore_index=True)

    def written(self, name: str) -> pd.DataFrame:
        """A table of the report."""
        return self.table(self.artifacts.report / f"{name}.csv")


def make_study(root: Path, networks: Mapping[str, int] | None = None, searches: Some[Search] = tuple(NORTH)) -> Study:
    """Write the study below `root`; `networks` gives collections other than `north` and `south`, all like `south`."""
    networks = networks or {"north": 44, "south": 50}
    diverged = {"north": {3: 2, 8: 40, 21: 0, 30: 86}, "south": dict.fromkeys(range(23), 20)}
    artifacts = Artifacts(root)
    rows: list[dict[str, Any]] = []
    for number, (name, count) in enumerate(networks.items()):
        recipes = [_recipe(network, number) for network in range(count)]
        shards = make_shards(artifacts.checkpoints(name), recipes, name, diverged.get(name))
        assemble(shards, recipes, name, artifacts.zoo(name), 7)
        zoo = _with_a_vanished_bias(artifacts.zoo(name))
        write_features(zoo, [RECIPE[1], FEWER], artifacts.features(name))
        scores = _scores(name, searches)
        rows += scores.to_dict("records")
        _write_searches(artifacts, zoo, scores, number)
        _write_forecasts(artifacts, name, number)
    _write_evaluation(artifacts, pd.DataFrame(rows), list(networks))
    params = make_params(dict(networks), [FEWER, "hyper"])
    return Study(
        artifacts, params.model_copy(update={"forecast": params.forecast.model_copy(update={"features": RECIPE[1]})})
    )


def _with_a_vanished_bias(folder: Path) -> Collection:
    """Set the first bias of one network to zero and open the collection."""
    zoo = Collection.open(folder)
    weights = np.array(zoo.weights)
    weights[zoo.final()[2], :16] = 0
    np.save(folder / "weights.npy", weights)
    return Collection.open(folder)


def _recipe(network: int, number: int) -> Recipe:
    """Learning rates spread over two decades, so that their axis is logarithmic; other networks in each collection."""
    spread = (network + 1 + 100 * number) * 0.7548776662466927 % 1
    return make_recipe(network, learning_rate=5e-4 * 100**spread, dropout=0.7 * (spread * 7 % 1))


def _scores(name: str, searches: Some[Search]) -> pd.DataFrame:
    """Return the rows of scores.csv, worst first, with intervals that are not symmetric."""
    rows = []
    for place, (search, r2) in enumerate(NORTH.items()):
        if name != "north":
            if search == ONLY_NORTH:
                continue
            r2 = 0.98 - 0.035 * ((5 * place + 5) % 22)  # noqa: PLW2901 - the recipe is best: place 21
        values = {"r2": r2, "kendall_tau": 0.8 * r2 + 0.004 * (place % 5) + 0.01, "mae": 0.0134 + 0.0021 * place}
        row = {"collection": name, "predictor": search[0], "features": search[1]}
        row |= {"networks_train": 21 + 100 * (name == "south"), "networks_test": 19 + 100 * (name == "south")}
        row |= {"kendall_tau_ceiling": 0.985 if name == "north" else 0.975}
        for number, (score, value) in enumerate(values.items(), start=1):
            row |= {score: value, f"{score}_low": value - 0.0041 * number - 0.0003 * place}
            row |= {f"{score}_high": value + 0.0027 * number + 0.0002 * place}
        if search in searches:
            rows.append(row)
    table = pd.DataFrame(rows)
    recipe = table[(table["predictor"] == RECIPE[0]) & (table["features"] == RECIPE[1])].iloc[0]
    for score, low, high in (("r2", 0.11, 0.09), ("kendall_tau", 0.06, 0.13)):
        gain = table[score] - recipe[score]
        table[f"{score}_gain"], table[f"{score}_gain_low"], table[f"{score}_gain_high"] = gain, gain - low, gain + high
    table.loc[(table["predictor"] == "catboost") & (table["features"] == "hyper"), "r2_low"] = -0.6
    return table[::-1]


def _write_searches(artifacts: Artifacts, zoo: Collection, scores: pd.DataFrame, number: int) -> None:
    test = zoo.final("test")
    truth = zoo.metrics["test_accuracy"].to_numpy()[test]
    for place, row in enumerate(scores.to_dict("records")):
        folder = artifacts.predictor(row["collection"], row["predictor"], row["features"])
        folder.mkdir(parents=True)
        error = 0.05 * np.random.default_rng([number, place]).standard_normal(len(test))
        table = {"row": test, "network": zoo.metrics["modeldir"].iloc[test], "test_accuracy": truth}
        pd.DataFrame(table | {"predicted": truth + error}).to_csv(folder / "predictions.csv", index=False)
        if row["predictor"] == "catboost":
            pd.DataFrame(_importances(row["features"], place)).to_csv(folder / "importance.csv", index=False)


def _importances(features: str, place: int) -> dict[str, Sequence[Any]]:
    names: list[str] = []
    if features.startswith("hyper"):
        names += ["config.learning_rate", "config.dropout", "config.optimizer"]
    if features not in ("hyper", "hyper.learning_rate"):
        names += [
            f"conv2d{layer}/{part}:q{q}" for layer in ("", "_1") for part in ("bias", "kernel") for q in (0, 25, 50, 75)
        ]
    values = [float((7 * index + place) % 19) for index in range(len(names))]
    table = sorted(zip(values, names, strict=True), key=lambda pair: (-pair[0], pair[1]))
    return {"feature": [name for _, name in table], "importance": [value / sum(values) for value, _ in table]}


def _write_forecasts(artifacts: Artifacts, name: str, number: int) -> None:
    """Write forecasts and stopping, the epochs in disorder; in `north` stopping is safe from epoch 3 on."""
    artifacts.forecast(name).mkdir(parents=True)
    known = [*INPUTS, "an input of the future"]
    forecasts, stopping = [], []
    for place, epoch in sorted(enumerate(EPOCHS), key=lambda one: 5 * one[0] % 9):
        for index, given in enumerate(known):
            row: dict[str, Any] = {"collection": name, "epoch": epoch, "input": given, "predictor": "catboost"}
            row |= {"networks_train": 21, "networks_test": 19, "kendall_tau_ceiling": 0.97}
            for score, value in (("r2", -0.25 + 0.13 * place), ("kendall_tau", -0.031 + 0.11 * place), ("mae", 0.1)):
                value += 0.009 * index + 0.003 * number  # noqa: PLW2901
                row |= {score: value, f"{score}_low": value - 0.021, f"{score}_high": value + 0.012}
            forecasts.append(row)
            for share in SHARES:
                kept = 0.4 + 0.06 * place + 0.01 * index - 0.1 * share
                if share == 0.5 and epoch >= (3 if name == "north" else 86):
                    kept = {"weights": 0.96, "weights+accuracy": 0.99}.get(given, kept)
                row = {"collection": name, "epoch": epoch, "input": given, "stopped": share, "kept_best": kept}
                stopping.append(row | {"regret": 0.01 * index, "saved": share * (86 - epoch) / 86})
    pd.DataFrame(forecasts).to_csv(artifacts.forecast(name) / "forecast.csv", index=False)
    pd.DataFrame(stopping).to_csv(artifacts.forecast(name) / "stopping.csv", index=False)


def _write_evaluation(artifacts: Artifacts, scores: pd.DataFrame, names: Sequence[str]) -> None:
    artifacts.evaluation.mkdir(parents=True)
    scores.to_csv(artifacts.evaluation / "scores.csv", index=False)
    apart = []
    for shift, activation in ((0.017, "tanh"), (-0.031, "relu")):
        own = scores.assign(activation=activation, networks_test=8 if activation == "tanh" else 11)
        for column in (f"{score}{end}" for score in ("r2", "kendall_tau") for end in ENDS):
            own[column] += shift
        apart.append(own)
    pd.concat(apart).to_csv(artifacts.evaluation / "by_activation.csv", index=False)
    transfer = [
        {"trained_on": row["collection"], "predictor": row["predictor"], "features": row["features"]}
        | {"tested_on": other, "r2": row["r2"] - loss, "kendall_tau": row["kendall_tau"] - 1.5 * loss}
        for row in scores.to_dict("records")
        for other in (*names, "elsewhere")
        for loss in [0.0 if other == row["collection"] else 0.21 + 0.1 * (row["collection"] == "south")]
        if other == row["collection"] or row["features"] != HOME_ONLY
    ]
    pd.DataFrame(transfer).to_csv(artifacts.evaluation / "transfer.csv", index=False)


def write_unrendered(study: Study) -> dict[str, Figure]:
    """Write the report and return its figures by the names of their files.

    Nothing is rendered, which takes most of the time: each PNG file holds the number of its figure instead.
    """
    drawn: list[Figure] = []

    def keep(canvas: FigureCanvasAgg, file: Any, **_: Any) -> None:
        drawn.append(canvas.figure)
        file.write(f"figure {len(drawn) - 1}".encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "print_png", keep)
        write_report(study.artifacts, study.params)
    files = (study.artifacts.report / "figures").glob("*.png")
    return {path.stem: drawn[int(path.read_text().removeprefix("figure "))] for path in files}


GOLDEN = Path(__file__).parent / "golden"
GOLDEN_TABLES = ("accuracies", "learning_curves", "leaderboard", "predicted", "importances")


def golden_study(root: Path) -> Study:
    """Write the small study whose tables are kept in golden/, and its report."""
    searches = [("dnn", "hyper+weights"), ("linear", "weights"), BASELINE_NORTH, RECIPE]
    study = make_study(root, {"lone": 8}, searches)
    write_unrendered(study)
    return study


def label_of(predictor: str, features: str) -> str:
    """Return how a reader is told of a search."""
    return f"{PREDICTORS[predictor]} · {FEATURES[features][0]}"


def kind_of(features: str) -> str:
    """Return what kind of knowledge a feature set is."""
    return FEATURES[features][1]


def first_of(scores: pd.DataFrame, features: Iterable[str]) -> "pd.Series[Any]":
    """Return the best search on one of these feature sets."""
    return scores[scores["features"].isin(list(features))].sort_values("r2", ascending=False).iloc[0]


if __name__ == "__main__":  # regenerate golden/: PYTHONPATH=tests python tests/report/report_study.py
    GOLDEN.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        made = golden_study(Path(folder)).artifacts.report
        for table in GOLDEN_TABLES:
            (GOLDEN / f"{table}.csv").write_bytes((made / f"{table}.csv").read_bytes())
        (GOLDEN / "summary.json").write_bytes((made / "summary.json").read_bytes())
