"""The report: figures, small tables, and one HTML page that opens offline.

`results.py` reads, `tables.py` counts, `zoo_figures.py` and `score_figures.py` draw, `page.py` writes the page.
"""

import json

from cnnzoo.artifacts import Artifacts
from cnnzoo.atomic import atomic_folder
from cnnzoo.config import Params
from cnnzoo.report import tables
from cnnzoo.report.page import Section, render
from cnnzoo.report.results import read_results
from cnnzoo.report.score_figures import score_pictures, transfer_picture
from cnnzoo.report.zoo_figures import zoo_pictures

__all__ = ["write_report"]

PAGE, FIGURES, SUMMARY = "index.html", "figures", "summary.json"


def write_report(artifacts: Artifacts, params: Params) -> None:
    """Write models/report/: index.html, figures/*.png, the tables behind them as CSV, and summary.json.

    The folder appears whole or not at all, and is a function of its inputs and of the installed versions: no dates.
    Raises `CnnzooError` that names a missing or damaged input and the stage that makes it.
    """
    results = read_results(artifacts, params)
    sections = [Section(found, list(zoo_pictures(found)), list(score_pictures(found))) for found in results.collections]
    transfer = transfer_picture(results)
    pictures = [picture for part in sections for picture in (*part.zoo_pictures, *part.score_pictures)]
    summary = {found.name: tables.summary(found) for found in results.collections}
    with atomic_folder(artifacts.report) as folder:
        (folder / FIGURES).mkdir()
        for picture in [*pictures, *([transfer] if transfer else [])]:
            (folder / FIGURES / f"{picture.name}.png").write_bytes(picture.png)
        for table in (tables.accuracies, tables.learning_curves, tables.predicted):
            table(results).to_csv(folder / f"{table.__name__}.csv", index=False, lineterminator="\n")
        (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(render(sections, transfer, params), encoding="utf-8")
