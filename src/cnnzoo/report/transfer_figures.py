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
        parts = figure.subfigures(len(chosen), 1, hspace=0.02, squeeze=False)[:, 0]
        for part, (predictor, features) in zip(parts, chosen, strict=True):
            axes = part.subplots(1, len(SCORES), sharey=True)
            label = f"{predictor_label(predictor)} · {features_label(features)}"
            part.suptitle(label, x=0.01, ha="left", fontsize=10, fontweight="bold")
            for axis, (name, title) in zip(axes, SCORES.items(), strict=True):
                own = table.loc[[(predictor, features)]]
                _grid(axis, own.pivot_table(index="trained_on", columns="tested_on", values=name), names)
                axis.set_title(title, fontsize=9, fontweight="normal")
                axis.set_xlabel("tested on", fontsize=8)
            axes[0].set_ylabel("trained on", fontsize=8)

    return Picture(
        name="transfer",
        title="Does it carry over?",
        caption="Trained on one collection, tested on the held-out networks of another (diagonal: of the same). For "
        "each predictor its best input that sees weights alone, and one that fits every collection. Empty: the other "
        "collection's networks lack the layers of the input.",
        alt=f"Grids of R2 and Kendall's tau for each pair of a training and a test collection, for {len(chosen)} "
        "predictors.",
        png=drawing.draw(min(10.0, 4.0 + 1.5 * len(names)), (1.1 + 0.4 * len(names)) * len(chosen), paint),
    )


def transfer_searches(results: Results) -> list[Search]:
    """Return each predictor's best search on weights alone, by mean R2 in its own collection; MOST_GRIDS at most.

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
    drawing.name_columns(axis, names, straight=4)
    axis.set_yticks(range(len(names)), names, fontsize=8)
