"""What the report's figures show, against the files that the report reads: every artist's data, labels and colours."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle
from report_study import (
    BASELINE_NORTH,
    BEST_NORTH,
    EPOCHS,
    FEATURES,
    INPUTS,
    KIND_WORDS,
    NORTH,
    PREDICTORS,
    RECIPE,
    Study,
    first_of,
    kind_of,
    label_of,
)
from sklearn.decomposition import PCA

pytestmark = pytest.mark.slow

NAMES = ("north", "south")
SCORES = {"r2": "R²", "kendall_tau": "Kendall's τ"}
OF_WEIGHTS = [features for features in FEATURES if kind_of(features) == "weights"]
SHOWN_NORTH = [search for place, search in enumerate(NORTH) if place < 15 or search in (BASELINE_NORTH, RECIPE)]
"""The best 15, and where they rank lower the published recipe and the best on all hyperparameters."""


def flat(text: str) -> str:
    """Return a text in one line."""
    return " ".join(text.split())


def tick_labels(axis: Any) -> list[str]:
    return [flat(label.get_text()) for label in axis.get_ticklabels()]


def legend_of(owner: Axes | Figure) -> dict[str, str]:
    """Return the labels of a legend with the colours beside them."""
    (legend,) = owner.legends if isinstance(owner, Figure) else [owner.get_legend()]
    colours = []
    for handle in legend.legend_handles:
        colour = handle.get_color() if isinstance(handle, Line2D) else handle.get_facecolor()
        colours.append(to_hex(colour[0] if np.ndim(colour) == 2 else colour))
    return dict(zip((text.get_text() for text in legend.get_texts()), colours, strict=True))


def lines_of(axis: Axes, label: str) -> list[Line2D]:
    return [line for line in axis.lines if line.get_label() == label]


def drawn_lines(axis: Axes) -> list[tuple[list[float], list[float]]]:
    """Return x and y of all lines that hold points."""
    return [
        (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
        for line in axis.lines
        if len(line.get_xdata())
    ]


def dots_of(axis: Axes) -> PathCollection:
    """Return the scatter plot of an axis that holds points."""
    (dots,) = [c for c in axis.collections if isinstance(c, PathCollection) and len(c.get_offsets())]
    return dots


def places_of(dots: PathCollection) -> np.ndarray:
    return np.asarray(dots.get_offsets(), dtype=float)


def cells_of(axis: Axes) -> dict[tuple[int, int], str]:
    """Return the texts of a table by column and row."""
    return {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in axis.texts}


def shade_of(r2: float) -> float:
    """0 where nothing is predicted, 1 where 1% or less of the variance is missed, logarithmic between."""
    return float(np.log(min(max(1 - r2, 0.01), 1)) / np.log(0.01))


def signed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def test_every_figure_is_filled_and_titled(figures: dict[str, Figure]) -> None:
    kinds = ("accuracies", "activations", "forecast", "hyperparameters", "importances", "learning_curves")
    kinds += ("predicted", "scores", "weights")
    expected = [f"{name}-{kind}" for name in NAMES for kind in kinds]
    assert sorted(figures) == sorted([*expected, "distributions", "leaderboard", "maps", "transfer"])
    assert len({id(figure) for figure in figures.values()}) == len(figures)


# --- all inputs and predictors ----------------------------------------------------------------------------------------


def leaderboard_rows(study: Study) -> list[str]:
    """Feature sets by kind, in each kind by the mean over the collections of their best R2."""
    best = pd.concat([study.scores(name).groupby("features")["r2"].max() for name in NAMES]).groupby(level=0).mean()
    kinds = ["weights", "both", "hyperparameters"]
    return sorted(best.index, key=lambda features: (kinds.index(kind_of(features)), -best[features]))


def test_the_leaderboard_holds_the_r2_of_every_search_of_its_collection(
    study: Study, figures: dict[str, Figure]
) -> None:
    axes, rows, columns = figures["leaderboard"].axes, leaderboard_rows(study), list(PREDICTORS)
    assert [axis.get_title(loc="left") for axis in axes] == list(NAMES)
    assert tick_labels(axes[0].yaxis) == [FEATURES[features][0] for features in rows]
    for name, axis in zip(NAMES, axes, strict=True):
        assert tick_labels(axis.xaxis) == list(PREDICTORS.values())
        expected, shades = {}, np.full((len(rows), len(columns)), np.nan)
        for row in study.scores(name).to_dict("records"):
            place = columns.index(row["predictor"]), rows.index(row["features"])
            expected[place] = "< 0" if row["r2"] < 0 else f"{row['r2']:.3f}"[1:]
            shades[place[1], place[0]] = shade_of(row["r2"])
        assert cells_of(axis) == expected
        np.testing.assert_allclose(np.ma.filled(axis.images[0].get_array(), np.nan), shades, rtol=1e-12)
        assert axis.images[0].get_clim() == (0, 1)


def test_the_leaderboard_frames_the_best_on_weights_alone_and_the_recipe(
    study: Study, figures: dict[str, Figure]
) -> None:
    rows, columns = leaderboard_rows(study), list(PREDICTORS)
    for name, axis in zip(NAMES, figures["leaderboard"].axes, strict=True):
        frames = {}
        for patch in axis.patches:
            middle = patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2
            line = "solid" if patch.get_linestyle() == "-" else "dashed"
            frames[line] = (columns[round(middle[0])], rows[round(middle[1])])
        best = first_of(study.scores(name), OF_WEIGHTS)
        assert frames == {"solid": (best["predictor"], best["features"]), "dashed": RECIPE}


def test_the_leaderboard_colours_the_names_of_inputs_by_what_they_know(
    study: Study, figures: dict[str, Figure]
) -> None:
    figure = figures["leaderboard"]
    legend = legend_of(figure)
    for features, label in zip(leaderboard_rows(study), figure.axes[0].get_yticklabels(), strict=True):
        assert to_hex(label.get_color()) == legend[f"sees {KIND_WORDS[kind_of(features)]}"]


# --- which predictor is best ------------------------------------------------------------------------------------------


def test_the_best_searches_are_the_first_15_and_the_landmarks_with_their_intervals(
    study: Study, figures: dict[str, Figure]
) -> None:
    figure, scores = figures["north-scores"], study.scores("north").set_index(["predictor", "features"])
    marks = {RECIPE: "◆ ", BASELINE_NORTH: "◇ "}
    assert tick_labels(figure.axes[0].yaxis) == [marks.get(search, "") + label_of(*search) for search in SHOWN_NORTH]
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1], "the best stands on top"
    legend = legend_of(figure)
    for axis, (column, title) in zip(figure.axes, SCORES.items(), strict=True):
        assert axis.get_title(loc="left") == title
        drawn = iter(axis.lines)
        for place, search in enumerate(SHOWN_NORTH):
            interval, point = next(drawn), next(drawn)
            low, value, high = (max(scores.loc[search, f"{column}{end}"], -0.25) for end in ("_low", "", "_high"))
            assert drawn_line(interval) == ([low, high], [place, place])
            assert drawn_line(point) == ([value], [place])
            assert point.get_marker() == ("<" if scores.loc[search, column] < -0.25 else "o")
            colour = legend[f"sees {KIND_WORDS[kind_of(search[1])]}"]
            assert to_hex(interval.get_color()) == to_hex(point.get_color()) == colour


def drawn_line(line: Line2D) -> tuple[list[float], list[float]]:
    return list(map(float, np.atleast_1d(line.get_xdata()))), list(map(float, np.atleast_1d(line.get_ydata())))


def test_the_ceiling_of_tau_is_that_of_the_collection(figures: dict[str, Figure]) -> None:
    for name, ceiling in (("north", 0.985), ("south", 0.975)):
        r2, tau = figures[f"{name}-scores"].axes
        assert lines_of(r2, "ceiling of τ") == []
        (line,) = lines_of(tau, "ceiling of τ")
        assert set(line.get_xdata()) == {ceiling}


def test_activations_are_drawn_apart_with_their_own_scores_and_counts(study: Study, figures: dict[str, Figure]) -> None:
    shown = [search for place, search in enumerate(NORTH) if place < 8 or search in (BASELINE_NORTH, RECIPE)]
    figure, scores = figures["north-activations"], study.table(study.artifacts.evaluation / "by_activation.csv")
    scores = scores[scores["collection"] == "north"].set_index(["activation", "predictor", "features"])
    assert [re.sub("[◆◇] ", "", label) for label in tick_labels(figure.axes[0].yaxis)] == [label_of(*s) for s in shown]
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]
    legend = legend_of(figure)
    assert list(legend) == ["relu (11 networks)", "tanh (8 networks)"]
    for axis, (column, title) in zip(figure.axes, SCORES.items(), strict=True):
        assert axis.get_title(loc="left") == title
        for activation, words in zip(("relu", "tanh"), legend, strict=True):
            values = np.array(
                [[scores.loc[(activation, *s), f"{column}{end}"] for end in ("_low", "", "_high")] for s in shown]
            )
            low, value, high = np.maximum(values, -0.25).T
            (points,) = [
                line for line in axis.lines if len(line.get_xdata()) and to_hex(line.get_color()) == legend[words]
            ]
            np.testing.assert_allclose(points.get_xdata(), value)
            np.testing.assert_allclose(np.round(points.get_ydata()), np.arange(len(shown)))
            (bars,) = [c for c in axis.collections if to_hex(c.get_color()[0]) == legend[words]]
            assert isinstance(bars, LineCollection)
            ends = np.array([segment[:, 0] for segment in bars.get_segments()])
            np.testing.assert_allclose(ends, np.stack([low, high], axis=1))
            np.testing.assert_allclose([segment[0, 1] for segment in bars.get_segments()], points.get_ydata())


# --- single predictors ------------------------------------------------------------------------------------------------


def test_predicted_over_true_accuracy_of_the_landmarks_and_the_best_others(
    study: Study, figures: dict[str, Figure]
) -> None:
    figure, scores = figures["north-predicted"], study.scores("north").set_index(["predictor", "features"])
    shown = [*list(NORTH)[:4], BASELINE_NORTH, RECIPE]  # with the best on weights among the first four
    assert BEST_NORTH in shown
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("true test accuracy", "predicted")
    for axis, (predictor, features) in zip(figure.axes, shown, strict=True):
        r2 = signed(scores.loc[(predictor, features), "r2"], 3)
        assert flat(axis.get_title(loc="left")) == f"{PREDICTORS[predictor]} · R² {r2} {FEATURES[features][0]}"
        told = pd.read_csv(study.artifacts.predictor("north", predictor, features) / "predictions.csv")
        np.testing.assert_allclose(places_of(dots_of(axis)), told[["test_accuracy", "predicted"]])
        assert axis.get_aspect() == 1
        assert axis.get_xlim() == axis.get_ylim()
        (diagonal,) = axis.lines
        assert (diagonal.get_xy1(), diagonal.get_slope()) == ((0, 0), 1)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("north", [("catboost", "hyper.activation+probes"), ("catboost", "hyper.learning_rate")]),
        ("south", [RECIPE, ("catboost", "hyper.learning_rate")]),
    ],
)
def test_importances_are_those_of_the_best_on_weights_and_on_hyperparameters(
    name: str, shown: Sequence[tuple[str, str]], study: Study, figures: dict[str, Figure]
) -> None:
    for axis, (predictor, features) in zip(figures[f"{name}-importances"].axes, shown, strict=True):
        assert flat(axis.get_title(loc="left")) == f"{PREDICTORS[predictor]} {FEATURES[features][0]}"
        table = pd.read_csv(study.artifacts.predictor(name, predictor, features) / "importance.csv")
        table["share"] = table["importance"] / table["importance"].sum()
        table = table.sort_values(["share", "feature"], ascending=[False, True]).head(15)
        bars = sorted(axis.patches, key=lambda bar: bar.get_y())
        assert [bar.get_width() for bar in bars] == pytest.approx(table["share"].tolist())
        assert axis.get_ylim()[0] > axis.get_ylim()[1], "the most important stands on top"
        names = tick_labels(axis.yaxis)
        assert len(set(names)) == len(table)
        for told, feature in zip(names, table["feature"], strict=True):
            assert told == words_of(feature)


def words_of(feature: str) -> str:
    if feature.startswith("config."):
        return feature.removeprefix("config.").replace("_", " ")
    layer, part, statistic = re.fullmatch(r"conv2d(_1)?/(\w+):q(\d+)", feature).groups()  # type: ignore[union-attr]
    words = {"0": "minimum", "25": "lower quartile", "50": "median", "75": "upper quartile"}
    return f"convolution {2 if layer else 1}, {part}: {words[statistic]}"


# --- all collections --------------------------------------------------------------------------------------------------


def with_activation(study: Study, name: str, activation: str) -> np.ndarray:
    final = study.final(name)
    return final.loc[final["config.activation"] == activation, "test_accuracy"].to_numpy()


def test_violins_show_the_distribution_and_the_median_of_each_activation(
    study: Study, figures: dict[str, Figure]
) -> None:
    axis = figures["distributions"].axes[0]
    assert tick_labels(axis.xaxis) == list(NAMES)
    legend = legend_of(axis)
    assert list(legend) == ["relu", "tanh"]
    bars = [bar for bar in axis.patches if isinstance(bar, Rectangle) and bar.get_width() and bar.get_height()]
    medians = [(x, y) for x, y in drawn_lines(axis) if len(set(y)) == 1 and max(x) - min(x) == pytest.approx(0.45)]
    assert len(medians) == 2 * len(NAMES)
    for place, name in enumerate(NAMES):
        for activation, side in (("relu", -1), ("tanh", 1)):
            accuracy = with_activation(study, name, activation)
            own = [
                bar for bar in bars if round(bar.get_x()) == place and to_hex(bar.get_facecolor()) == legend[activation]
            ]
            found = {round(bar.get_y() * 50): bar.get_width() for bar in own if abs(bar.get_width()) < 0.46}
            counts = np.histogram(accuracy, np.linspace(0, 1, 51))[0]
            expected = {bin: side * 0.45 * np.sqrt(counts[bin] / counts.max()) for bin in np.flatnonzero(counts)}
            assert found == pytest.approx(expected)
            ends = sorted([place, place + side * 0.45])
            assert [y for x, y in medians if sorted(x) == pytest.approx(ends)] == [[np.median(accuracy)] * 2]


def test_cumulative_distributions_are_those_of_the_activation_in_the_title(
    study: Study, figures: dict[str, Figure]
) -> None:
    axes = figures["distributions"].axes[1:]
    assert [axis.get_title(loc="left") for axis in axes] == ["relu", "tanh"]
    for axis, activation in zip(axes, ("relu", "tanh"), strict=True):
        for name in NAMES:
            accuracy = np.sort(with_activation(study, name, activation))
            (line,) = lines_of(axis, name)
            x, y = (np.asarray(data, dtype=float) for data in line.get_data())
            for place, value in enumerate(accuracy, start=1):
                share = np.searchsorted(accuracy, value, side="right") / len(accuracy)
                assert y[x <= value].max() == pytest.approx(share), place
        chance = [line for line in axis.lines if set(line.get_xdata()) == {0.1}]
        assert len(chance) == 1
    assert set(legend_of(axes[0])) == set(NAMES)


def statistics_of(study: Study, name: str) -> pd.DataFrame:
    """Percentiles, standard deviation and mean of bias and kernel of all layers of the final networks."""
    zoo = study.zoo(name)
    weights = np.asarray(zoo.weights[study.final(name)["row"]], dtype=np.float64)
    layout, columns = pd.read_csv(study.artifacts.zoo(name) / "layout.csv"), {}
    for row in layout.to_dict("records"):
        part = weights[:, row["start_idx"] : row["end_idx"]]
        for q in (0, 25, 50, 75, 100):
            columns[f"{row['varname']}:{q}"] = np.percentile(part, q, axis=1)
        columns |= {f"{row['varname']}:std": part.std(axis=1), f"{row['varname']}:mean": part.mean(axis=1)}
    return pd.DataFrame(columns)


def test_maps_place_networks_by_the_ranks_of_their_statistics_and_colour_them(
    study: Study, figures: dict[str, Figure]
) -> None:
    axes = [axis for axis in figures["maps"].axes if axis.get_title(loc="left")]
    for number, name in enumerate(NAMES):
        by_accuracy, *others = axes[3 * number : 3 * number + 3]
        ranks, final = statistics_of(study, name).rank(), study.final(name)
        reference = PCA(2).fit(2 * ranks / len(ranks))
        expected = reference.transform(2 * ranks / len(ranks))
        places = places_of(dots_of(by_accuracy))
        np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=1e-6)  # a component's sign is free
        shares = reference.explained_variance_ratio_
        assert by_accuracy.get_xlabel() == f"component 1 ({shares[0]:.0%} of the spread)"
        assert by_accuracy.get_ylabel() == f"component 2 ({shares[1]:.0%})"
        assert by_accuracy.get_title(loc="left") == f"{name}, by accuracy"
        np.testing.assert_allclose(dots_of(by_accuracy).get_array(), final["test_accuracy"])
        assert dots_of(by_accuracy).get_clim() == (0, 1)
        for axis, column in zip(others, ("activation", "optimizer"), strict=True):
            assert axis.get_title(loc="left") == f"by {column}"
            np.testing.assert_array_equal(places_of(dots_of(axis)), places)
            legend = legend_of(axis)
            assert list(legend) == sorted(final[f"config.{column}"].unique())
            assert len(set(legend.values())) == len(legend)
            colours = [to_hex(colour) for colour in dots_of(axis).get_facecolors()]
            assert colours == [legend[value] for value in final[f"config.{column}"]]


def test_transfer_grids_hold_the_scores_of_training_and_test_collection(
    study: Study, figures: dict[str, Figure]
) -> None:
    home = pd.concat([study.scores(name) for name in NAMES])
    home = home[home["features"].isin(OF_WEIGHTS)]
    means = home.groupby(["predictor", "features"])["r2"].mean()
    chosen = [(predictor, means[predictor].idxmax()) for predictor in PREDICTORS]
    chosen.sort(key=lambda search: -means[search])
    transfer = study.table(study.artifacts.evaluation / "transfer.csv")
    parts = figures["transfer"].subfigs
    assert [flat(part.get_suptitle()) for part in parts] == [label_of(*search) for search in chosen]
    for part, (predictor, features) in zip(parts, chosen, strict=True):
        own = transfer[(transfer["predictor"] == predictor) & (transfer["features"] == features)]
        own = own[own["tested_on"].isin(NAMES)]
        for axis, (column, title) in zip(part.axes, SCORES.items(), strict=True):
            assert axis.get_title(loc="left") == title
            assert axis.get_xlabel() == "tested on"
            assert tick_labels(axis.xaxis) == list(NAMES)
            expected = {
                (NAMES.index(row["tested_on"]), NAMES.index(row["trained_on"])): signed(row[column], 2)
                for row in own.to_dict("records")
            }
            assert cells_of(axis) == expected
        assert part.axes[0].get_ylabel() == "trained on"
        assert tick_labels(part.axes[0].yaxis) == list(NAMES)


# --- forecasts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_forecast_curves_are_the_scores_with_their_bands_over_the_epoch(
    name: str, study: Study, figures: dict[str, Figure]
) -> None:
    figure, table = figures[f"{name}-forecast"], study.table(study.artifacts.forecast(name) / "forecast.csv")
    legend = legend_of(figure)
    assert list(legend) == list(INPUTS.values())
    for axis, (column, title) in zip(figure.axes[:2], SCORES.items(), strict=True):
        assert axis.get_title(loc="left") == title
        for given, label in INPUTS.items():
            own = table[table["input"] == given].sort_values("epoch")
            assert_curve(axis, label, legend, own["epoch"], own[column])
        bands = [band_of(collection) for collection in axis.collections]
        expected = []
        for given in INPUTS:
            own = table[table["input"] == given]
            expected.append(
                {
                    epoch: (low, high)
                    for epoch, low, high in zip(own["epoch"], own[f"{column}_low"], own[f"{column}_high"], strict=True)
                }
            )
        assert bands == [{epoch: pytest.approx(ends) for epoch, ends in one.items()} for one in expected]
        lowest = min(table[column].min() - 0.02, 0)
        assert axis.get_ylim() == pytest.approx((max(lowest, -0.1), 1.02), abs=0.01)


def assert_curve(axis: Axes, label: str, legend: dict[str, str], x: Iterable[float], y: Iterable[float]) -> None:
    (line,) = lines_of(axis, label)
    assert list(line.get_xdata()) == list(x)
    assert list(line.get_ydata()) == pytest.approx(list(y))
    assert to_hex(line.get_color()) == legend[label]


def band_of(collection: Any) -> dict[int, tuple[float, float]]:
    """Return the lower and upper end of a filled band at each epoch."""
    (path,) = collection.get_paths()
    ends: dict[int, list[float]] = {}
    for x, y in path.vertices:
        ends.setdefault(round(x), []).append(float(y))
    return {epoch: (min(values), max(values)) for epoch, values in ends.items()}


def test_stopping_curves_are_the_best_kept_where_half_and_where_most_are_stopped(
    study: Study, figures: dict[str, Figure]
) -> None:
    figure, table = figures["north-forecast"], study.table(study.artifacts.forecast("north") / "stopping.csv")
    legend = legend_of(figure)
    assert len(figure.axes) == 4
    for axis, share in zip(figure.axes[2:], (0.5, 0.75), strict=True):
        assert flat(axis.get_title(loc="left")) == f"{share:.0%} stopped: share of the best kept"
        for given, label in INPUTS.items():
            own = table[(table["input"] == given) & (table["stopped"] == share)].sort_values("epoch")
            assert_curve(axis, label, legend, own["epoch"], own["kept_best"])


def test_epochs_of_forecasts_are_ticks_where_their_labels_have_room(figures: dict[str, Figure]) -> None:
    for axis in figures["north-forecast"].axes:
        assert axis.get_xlim() == (0, 86)
        ticks = list(axis.get_xticks())
        assert ticks[0] == 0
        assert ticks[-1] == 86
        assert set(ticks) <= set(EPOCHS)
        assert [axis.xaxis.get_major_formatter()(tick) for tick in ticks] == [str(int(tick)) for tick in ticks]
        assert axis.get_xlabel() == "epoch of the forecast"


# --- the networks of a collection -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_histograms_count_the_final_networks_also_by_activation_and_optimizer(
    name: str, study: Study, figures: dict[str, Figure]
) -> None:
    final, (every, *parts) = study.final(name), figures[f"{name}-accuracies"].axes
    edges = np.linspace(0, 1, 26)
    counts, _ = np.histogram(final["test_accuracy"], edges)
    bars = sorted(every.patches, key=lambda bar: bar.get_x())
    assert [bar.get_height() for bar in bars] == counts.tolist()
    assert [bar.get_x() for bar in bars] == pytest.approx(edges[:-1].tolist())
    assert [x for x, _ in drawn_lines(every)] == [[np.median(final["test_accuracy"])] * 2]
    assert every.get_title(loc="left") == "All networks"
    for axis, column in zip(parts, ("activation", "optimizer"), strict=True):
        assert axis.get_title(loc="left") == f"By {column}"
        groups = dict(list(final.groupby(f"config.{column}")["test_accuracy"]))
        legend = legend_of(axis)
        labels = {value: f"{value} ({len(own)})" for value, own in groups.items()}
        assert set(legend) == set(labels.values())
        for value, label in labels.items():
            (outline,) = [
                p for p in axis.patches if isinstance(p, Polygon) and to_hex(p.get_facecolor()) == legend[label]
            ]
            counts, _ = np.histogram(groups[value], edges)
            middles = (edges[:-1] + edges[1:]) / 2
            area, centre = area_of(outline.get_xy())
            assert area == pytest.approx(len(groups[value]) * 0.04)
            assert centre == pytest.approx((counts * middles).sum() / counts.sum())


def area_of(corners: np.ndarray) -> tuple[float, float]:
    """Return the area of a polygon and the x of its centre (shoelace formula)."""
    x, y = corners.T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = cross.sum() / 2
    return abs(area), ((x + np.roll(x, -1)) * cross).sum() / (6 * area)


@pytest.mark.parametrize("name", NAMES)
def test_learning_curves_are_those_of_the_networks_with_quantiles_over_them(
    name: str, study: Study, figures: dict[str, Figure]
) -> None:
    (axis,) = figures[f"{name}-learning_curves"].axes
    metrics = study.zoo(name).metrics
    curves = np.array([own.sort_values("step")["test_accuracy"] for _, own in metrics.groupby("modeldir")])
    (median,) = lines_of(axis, "median")
    assert list(median.get_xdata()) == list(EPOCHS)
    assert list(median.get_ydata()) == pytest.approx(np.median(curves, axis=0).tolist())
    bands = {collection.get_label(): band_of(collection) for collection in axis.collections}
    for label, ends in (("90% of networks", (0.05, 0.95)), ("half of networks", (0.25, 0.75))):
        low, high = np.quantile(curves, ends, axis=0)
        assert bands[label] == {e: pytest.approx((low[i], high[i])) for i, e in enumerate(EPOCHS)}
    single = [line.get_ydata().tolist() for line in axis.lines if line is not median and len(line.get_xdata())]
    assert sorted(single) == [pytest.approx(curve) for curve in sorted(curves.tolist())]
    assert (axis.get_ylabel(), axis.get_ylim(), axis.get_xlim()) == ("test accuracy", (0, 1), (0, 86))


@pytest.mark.parametrize("name", NAMES)
def test_every_hyperparameter_is_drawn_against_the_accuracy(
    name: str, study: Study, figures: dict[str, Figure]
) -> None:
    final, axes = study.final(name), figures[f"{name}-hyperparameters"].axes
    ranged = ("learning_rate", "l2reg", "init_std", "dropout")
    chosen = ("train_fraction", "activation", "optimizer", "w_init")
    assert [axis.get_title(loc="left") for axis in axes] == [*ranged, *chosen]
    assert figures[f"{name}-hyperparameters"].get_supylabel() == "final test accuracy"
    for axis, hyperparameter in zip(axes[:4], ranged, strict=True):
        own = final
        if hyperparameter == "init_std":
            own = final[final["config.w_init"].isin(["RandomNormal", "TruncatedNormal"])]
        table = own[[f"config.{hyperparameter}", "test_accuracy"]].to_numpy()
        np.testing.assert_allclose(places_of(dots_of(axis)), table)
        parts = np.array_split(table[np.argsort(table[:, 0], kind="stable")], max(1, min(8, len(table) // 8)))
        ((x, y),) = drawn_lines(axis)
        np.testing.assert_allclose(np.stack([x, y], axis=1), [np.median(part, axis=0) for part in parts])
        assert axis.get_xscale() == ("log" if hyperparameter == "learning_rate" else "linear")
    for axis, hyperparameter in zip(axes[4:], chosen, strict=True):
        groups = dict(list(final.groupby(f"config.{hyperparameter}")["test_accuracy"]))
        labels = [f"{value:g}" if isinstance(value, float) else value for value in sorted(groups)]
        assert tick_labels(axis.xaxis) == labels
        places = places_of(dots_of(axis))
        assert places[:, 1].tolist() == final["test_accuracy"].tolist()
        codes = [sorted(groups).index(value) for value in final[f"config.{hyperparameter}"]]
        assert np.round(places[:, 0]).tolist() == codes
        medians = [c.get_segments()[0] for c in axis.collections if isinstance(c, LineCollection)]
        found = {round(float(segment[:, 0].mean())): segment[0, 1] for segment in medians}
        assert found == pytest.approx({code: np.median(groups[value]) for code, value in enumerate(sorted(groups))})


@pytest.mark.parametrize("name", NAMES)
def test_weight_maps_show_the_spread_of_kernel_and_bias_of_each_layer_coloured_by_accuracy(
    name: str, study: Study, figures: dict[str, Figure]
) -> None:
    final, axes = study.final(name), figures[f"{name}-weights"].axes[:4]
    weights = np.asarray(study.zoo(name).weights[final["row"]], dtype=np.float64)
    layout = pd.read_csv(study.artifacts.zoo(name) / "layout.csv")
    titles = ["convolution 1", "convolution 2", "convolution 3", "dense layer"]
    for number, axis in enumerate(axes):
        assert axis.get_title(loc="left") == titles[number]
        assert (axis.get_xlabel(), axis.get_xscale(), axis.get_yscale()) == ("spread of the kernel", "log", "log")
        bias, kernel = (layout.iloc[2 * number + part] for part in (0, 1))
        assert ("bias" in bias["varname"], "kernel" in kernel["varname"]) == (True, True)
        spreads = [weights[:, part["start_idx"] : part["end_idx"]].std(axis=1) for part in (kernel, bias)]
        spreads = [
            np.maximum(spread, np.median(spread) / 1000) for spread in spreads
        ]  # a vanished one has no logarithm
        expected = np.stack([*spreads, final["test_accuracy"]], axis=1)
        dots = dots_of(axis)
        found = np.column_stack([places_of(dots), np.asarray(dots.get_array())])
        np.testing.assert_allclose(found, expected[np.argsort(expected[:, 2], kind="stable")], rtol=1e-5)
        assert dots.get_clim() == (0, 1)
    assert axes[0].get_ylabel() == "spread of the bias"
