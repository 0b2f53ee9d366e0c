"""Figure of how predictors fare on other collections (paper, figure 4)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnzoo import drawing
from cnnzoo.drawing import Picture
from cnnzoo.report.labels import features_label, kind_of, predictor_label
from cnnzoo.report.leaderboard_figures import COLOURS, SCORES, missed_shade
from cnnzoo.report.results import Results, Search

MOST_GRIDS = 4


def transfer_picture(results: Results) -> Picture | None:
    """Return the scores of the most telling searches on all collections; None for a single collection."""
    names = [found.name for found in results.collections]
    if len(names) < 2:
        return None
    chosen = transfer_searches(results)
    table = results.transfer.set_index(["predictor", "features"]).sort_index()

    def paint(figure: Figure) -> None:
        axes = figure.subplots(len(SCORES), len(chosen), squeeze=False, sharex=True, sharey=True)
        for line, (name, title) in zip(axes, SCORES.items(), strict=True):
            for axis, search in zip(line, chosen, strict=True):
                own = table.loc[[search]]
                _grid(axis, own.pivot_table(index="trained_on", columns="tested_on", values=name), names)
            line[0].set_ylabel(f"{title}\ntrained on")
        for axis, (predictor, features) in zip(axes[0], chosen, strict=True):
            axis.set_title(f"{predictor_label(predictor)}\n{_wrapped(features_label(features))}", fontsize=9)
        for axis in axes[-1]:
            axis.set_xlabel("tested on")

    return Picture(
        name="transfer",
        title="Does it carry over?",
        caption="Trained on one collection, tested on the held-out networks of another; on the diagonal at home. For "
        "each predictor its best input that sees weights alone, and one that fits every collection. Empty: the other "
        "collection's networks lack the layers of the input.",
        alt=f"Grids of R2 and Kendall's tau for each pair of a training and a test collection, for {len(chosen)} "
        "predictors.",
        png=drawing.draw(max(5.0, 2.0 + (0.9 + 0.62 * len(names)) * len(chosen)), 2.4 + 0.8 * len(names), paint),
    )


def transfer_searches(results: Results) -> list[Search]:
    """Return each predictor's search on weights alone with the best mean R2 at home, best first, at most MOST_GRIDS.

    If none of them fits networks of all collections' shapes, the last place goes to the best one that fits the most.
    Searches that see hyperparameters take part only if no other does.
    """
    scores = pd.concat([found.scores for found in results.collections])
    of_weights = scores[scores["features"].map(kind_of) == "weights"]
    means = (scores if of_weights.empty else of_weights).groupby(["predictor", "features"])["r2"].mean()
    ranked = means.fillna(-np.inf).sort_values(ascending=False, kind="stable")
    best = [group.index[0] for _, group in ranked.groupby(level="predictor", sort=False)][:MOST_GRIDS]
    best.sort(key=lambda search: -ranked[search])
    pairs = results.transfer.groupby(["predictor", "features"]).size().reindex(ranked.index, fill_value=0)
    widest = pairs.index[int(pairs.to_numpy().argmax())]
    if pairs[widest] > max(pairs[search] for search in best):
        best = [*best[: MOST_GRIDS - 1], widest]
    return best


def _grid(axis: Axes, values: pd.DataFrame, names: Sequence[str]) -> None:
    grid = values.reindex(index=list(names), columns=list(names)).to_numpy(dtype=np.float64)
    texts = np.vectorize(lambda value: f"{value:.2f}".replace("-", "−"))(grid)
    drawing.cells(axis, texts, missed_shade(grid), COLOURS)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)


def _wrapped(text: str) -> str:
    """Break a long label at the space nearest to its middle."""
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    if len(text) < 24 or not spaces:
        return text
    middle = min(spaces, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:middle]}\n{text[middle + 1 :]}"
