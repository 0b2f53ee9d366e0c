"""The report: figures, small tables, and one HTML page that opens offline.

`results.py` reads, `tables.py` counts, `labels.py` names, `*_figures.py` draw, `page.py` fills what lies in
`templates/`: the page, its style and the script of its table.
"""

import json

from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.atomic import atomic_folder
from cnnzoo.report import tables
from cnnzoo.report.forecast_figures import forecast_picture
from cnnzoo.report.group_figures import pairs_picture, replicates_picture
from cnnzoo.report.groups import seed_components
from cnnzoo.report.leaderboard_figures import activation_picture, best_picture, leaderboard_picture
from cnnzoo.report.overview_figures import distribution_picture, map_picture
from cnnzoo.report.page import Overview, Section, render
from cnnzoo.report.results import CollectionResults, read_results
from cnnzoo.report.score_figures import importance_picture, predicted_picture
from cnnzoo.report.transfer_figures import transfer_picture
from cnnzoo.report.zoo_figures import zoo_pictures

__all__ = ["write_report"]

PAGE, FIGURES, SUMMARY, METRICS = "index.html", "figures", "summary.json", "metrics.json"
TABLES = (
    tables.accuracies,
    tables.learning_curves,
    tables.predicted,
    tables.leaderboard,
    tables.importances,
    tables.forecast,
    tables.stopping,
)
"""What is written as CSV, each under its function's name."""


def write_report(artifacts: Artifacts, params: Params) -> None:
    """Write models/report/: index.html, figures/*.png, the tables behind them as CSV, summary.json and metrics.json.

    The folder appears whole or not at all, and is a function of its inputs and of the installed versions: no dates.
    Raises `CnnzooError` that names a missing or damaged input and the stage that makes it.
    """
    results = read_results(artifacts, params)
    overview = Overview(
        leaderboard_picture(results), distribution_picture(results), map_picture(results), transfer_picture(results)
    )
    sections = [_section(found, params) for found in results.collections]
    pictures = overview.pictures + [picture for one in sections for picture in (one.forecast, *one.pictures)]
    facts = {
        SUMMARY: {found.name: tables.summary(found) for found in results.collections},
        METRICS: {found.name: tables.headline(found) for found in results.collections},
    }
    grouped = {
        "replicates": tables.replicates({one.found.name: one.replicates for one in sections}),
        "pairs": tables.pairs(results),
    }
    with atomic_folder(artifacts.report) as folder:
        (folder / FIGURES).mkdir()
        for picture in pictures:
            (folder / FIGURES / f"{picture.name}.png").write_bytes(picture.png)
        for table in TABLES:
            table(results).to_csv(folder / f"{table.__name__}.csv", index=False, lineterminator="\n")
        for name, rows in grouped.items():
            if not rows.empty:
                rows.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        for name, content in facts.items():
            (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(render(sections, overview, params), encoding="utf-8")


def _section(found: CollectionResults, params: Params) -> Section:
    drawn = [draw(found) for draw in (best_picture, predicted_picture, activation_picture, importance_picture)]
    replicates = seed_components(found, params)
    drawn += [replicates_picture(found, replicates) if replicates else None, pairs_picture(found)]
    pictures = [picture for picture in drawn if picture is not None]
    return Section(found, forecast_picture(found), [*pictures, *zoo_pictures(found)], replicates)
