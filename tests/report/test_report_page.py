"""What a reader of the page is told, against the report's tables and the files they are made of."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_study import BASELINE_NORTH, BEST_NORTH, FEATURES, KIND_WORDS, PREDICTORS, RECIPE, Study, kind_of

pytestmark = pytest.mark.slow

NAMES = ("north", "south")
VOID = {"meta", "img", "br", "input", "link", "hr"}


@dataclass
class Element:
    """An element of the page."""

    tag: str
    attributes: dict[str, str]
    content: list["Element | str"] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list["Element"]:
        """Return the elements with a tag below this one, in the order of the page."""
        return [e for e in self._below() if e.tag == tag and attributes.items() <= e.attributes.items()]

    def one(self, tag: str, **attributes: str) -> "Element":
        (found,) = self.all(tag, **attributes)
        return found

    def text(self, without: str = "") -> str:
        """Return the visible text in one line; `without` leaves out a kind of element."""
        parts = [
            c if isinstance(c, str) else c.text(without) for c in self.content if isinstance(c, str) or c.tag != without
        ]
        return " ".join("".join(parts).split())

    def _below(self) -> Iterator["Element"]:
        for element in self.content:
            if isinstance(element, Element):
                yield element
                yield from element._below()


class Parser(HTMLParser):
    """Makes the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop().tag == tag, "elements are nested"

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


@pytest.fixture(scope="module")
def page(study: Study, figures: dict[str, Any]) -> Element:
    parser = Parser((study.artifacts.report / "index.html").read_text(encoding="utf-8"))
    assert len(parser.open) == 1, "every element is closed"
    return parser.root


def number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def interval(row: dict[str, Any], name: str, scale: float = 1, digits: int = 3) -> str:
    return f"{number(scale * row[f'{name}_low'], digits)} to {number(scale * row[f'{name}_high'], digits)}"


def test_sections_and_headings_stand_in_order(page: Element) -> None:
    assert page.one("title").text() == "cnnzoo report: north, south"
    assert [heading.text() for heading in page.all("h2")] == [
        "Leaderboard",
        "The networks",
        "Across collections",
        "How early can the final accuracy be predicted?",
        "north",
        "south",
        "How this was made",
    ]
    assert [section.attributes["id"] for section in page.all("section")] == [
        *("scores", "networks", "across", "early", "north", "south", "made")
    ]


def test_every_link_leads_to_a_section(page: Element) -> None:
    links = {link.attributes["href"]: link.text() for link in page.all("a")}
    assert links == {
        "#scores": "Leaderboard",
        "#networks": "Networks",
        "#across": "Transfer",
        "#early": "Forecasts",
        "#north": "north",
        "#south": "south",
        "#made": "How this was made",
    }


def test_the_figures_on_the_page_are_the_files_each_under_its_name(page: Element, study: Study) -> None:
    folder = study.artifacts.report / "figures"
    figures = {figure.attributes["id"]: figure for figure in page.all("figure")}
    assert sorted(figures) == sorted(path.stem for path in folder.iterdir())
    for name, figure in figures.items():
        embedded = figure.one("img").attributes["src"].removeprefix("data:image/png;base64,")
        assert base64.b64decode(embedded) == (folder / f"{name}.png").read_bytes()
        assert figure.one("h3").text()
        assert len(figure.one("figcaption").text()) > 30
    by_section = {section.attributes["id"]: section.all("figure") for section in page.all("section")}
    for name in NAMES:
        kinds = ("scores", "predicted", "activations", "importances")
        kinds += ("accuracies", "learning_curves", "hyperparameters", "weights")
        assert [figure.attributes["id"] for figure in by_section[name]] == [f"{name}-{kind}" for kind in kinds]
    assert [figure.attributes["id"] for figure in by_section["early"]] == [f"{name}-forecast" for name in NAMES]
    assert [figure.attributes["id"] for figure in by_section["networks"]] == ["distributions", "maps"]


def rows_of(page: Element) -> list[dict[str, Element]]:
    table = page.one("table", id="leaderboard-table")
    heads = [head.text() for head in table.one("thead").all("th")]
    return [dict(zip(heads, row.all("td"), strict=True)) for row in table.one("tbody").all("tr")]


def test_the_table_holds_every_search_of_the_leaderboard_in_its_order(page: Element, study: Study) -> None:
    board = study.written("leaderboard").to_dict("records")
    rows = rows_of(page)
    assert len(rows) == len(board)
    for row, expected in zip(rows, board, strict=True):
        words = FEATURES[expected["features"]][0]
        assert row["collection"].text() == expected["collection"]
        assert row["predictor"].text() == PREDICTORS[expected["predictor"]]
        assert row["sees"].text("small").startswith(words)
        assert row["sees"].one("code").text() == expected["features"]
        for head, name, scale, digits in (
            ("R²", "r2", 1, 3),
            ("Kendall’s τ", "kendall_tau", 1, 3),
            ("error", "mae", 100, 1),
        ):
            assert row[head].text("small") == number(scale * expected[name], digits)
            assert row[head].one("small").text() == interval(expected, name, scale, digits)
            assert float(row[head].attributes["data-value"]) == pytest.approx(
                scale * expected[name], rel=1e-5, abs=1e-9
            )


def test_gains_are_signed_and_coloured_where_their_interval_excludes_0(page: Element, study: Study) -> None:
    board = study.written("leaderboard").to_dict("records")
    seen = set()
    for row, expected in zip(rows_of(page), board, strict=True):
        for head, name in (("gain in R²", "r2_gain"), ("gain in τ", "kendall_tau_gain")):
            cell = row[head]
            if (expected["predictor"], expected["features"]) == RECIPE:
                assert (cell.text(), cell.attributes["data-value"]) == ("–", "")
                continue
            low, value, high = (expected[f"{name}{end}"] for end in ("_low", "", "_high"))
            assert cell.text("small") == ("+" if value > 0 else "") + number(value)
            assert cell.one("small").text() == interval(expected, name)
            assert float(cell.attributes["data-value"]) == pytest.approx(value, rel=1e-5)
            direction = "up" if low > 0 else "down" if high < 0 else ""
            assert cell.one("span").attributes["class"] == direction
            seen.add((name, direction))
    assert seen >= {("r2_gain", "up"), ("r2_gain", "down"), ("r2_gain", "")}
    assert seen >= {("kendall_tau_gain", direction) for direction in ("up", "down", "")}


def test_rows_say_what_they_see_and_which_are_the_landmarks(page: Element, study: Study) -> None:
    south_baseline = ("dnn", "hyper")
    marks = {("north", *BEST_NORTH): "best on weights", ("north", *BASELINE_NORTH): "baseline"}
    marks |= {("north", *RECIPE): "published recipe", ("south", *RECIPE): "published recipe"}
    marks |= {("south", *south_baseline): "baseline"}
    body = page.one("table", id="leaderboard-table").one("tbody")
    for row, expected in zip(body.all("tr"), study.written("leaderboard").to_dict("records"), strict=True):
        kind = kind_of(expected["features"])
        assert row.attributes == {
            "class": kind,
            "data-collection": expected["collection"],
            "data-predictor": PREDICTORS[expected["predictor"]],
            "data-kind": KIND_WORDS[kind],
        }
        badges = [badge.text() for badge in row.all("span", **{"class": "badge"})]
        mark = marks.get((expected["collection"], expected["predictor"], expected["features"]))
        assert badges == ([mark] if mark else [])
    caption = page.one("table", id="leaderboard-table").one("caption")
    keys = {span.one("i").attributes["class"]: span.text() for span in caption.all("span")}
    assert keys == {f"key {kind}": words for kind, words in KIND_WORDS.items()}


def test_the_head_tells_the_sizes_and_the_best_of_each_collection(page: Element) -> None:
    head = page.one("header").text()
    assert "94 small CNNs in 2 collections, each trained" in head
    assert f"{67 * 9} checkpoints kept, 27 networks diverged." in head
    assert (
        "On north the best of them, Stacked on activation + responses to synthetic images, is off by 1.6 percentage "
        "points on average for networks it never saw: R² 0.950, where the published recipe reaches −0.400 and the "
        "hyperparameters alone 0.550."
    ) in head
    assert (
        "On south the best of them, CatBoost on statistics of layers 0–3 (the published recipe), is off by 5.8 "
        "percentage points on average for networks it never saw: R² 0.980, where the hyperparameters alone reach 0.735."
    ) in head


@pytest.mark.parametrize("name", NAMES)
def test_a_collection_has_its_numbers_in_tiles(name: str, page: Element, study: Study) -> None:
    final, section = study.final(name), page.one("section", id=name)
    tiles = {tile.one("dt").text(): tile.one("dd").text() for tile in section.one("dl").all("div")}
    low, median, high = (f"{value:.1%}" for value in np.quantile(final["test_accuracy"], [0, 0.5, 1]))
    diverged = {"north": 4, "south": 23}[name]
    best, tau, baseline, baseline_tau = {
        "north": ("0.950Stacked on activation + responses to synthetic images", 0.774, "0.550CatBoost on", 0.454),
        "south": ("0.980CatBoost on statistics of layers 0–3", 0.798, "0.735DNN on", 0.61),
    }[name]
    assert tiles == {
        "networks": f"{len(final)}trained on mnist5k; 4,970 weights each; {diverged} more diverged",
        "checkpoints": f"{9 * len(final)}epochs 0, 1, 2, 3, 20, 40, 60, 80, 86",
        "median test accuracy": f"{median}from {low} to {high}",
        "R² of the best predictor": f"{best}; τ {tau:.3f}",
        "R² of the baseline": f"{baseline} hyperparameters; τ {baseline_tau:.3f}",
    }
    trained, tested = {"north": (21, 19), "south": (121, 119)}[name]
    assert f"Each predictor learned from {trained} networks and was tested on {tested} others." in section.text()


def test_verdicts_are_said_in_sentences(page: Element) -> None:
    assert (
        "By R² the weights predict better than the hyperparameters do: the intervals do not overlap. Over the "
        "published recipe the best predictor gains +1.350 in R² (1.240 to 1.440): the interval excludes 0."
    ) in page.one("section", id="north").text()
    assert (
        "By R² the weights predict better than the hyperparameters do: the intervals do not overlap. The published "
        "recipe, boosted trees on statistics of all layers, is the best here."
    ) in page.one("section", id="south").text()


def test_lessons_of_forecasts_are_told_in_words(page: Element, study: Study) -> None:
    caption = page.one("figure", id="north-forecast").one("figcaption").text()
    table = study.table(study.artifacts.forecast("north") / "forecast.csv").query("epoch == 1").set_index("input")
    words = {"weights": "the weights", "accuracy": "the accuracy so far", "hyper": "the hyperparameters"}
    told = [f"{text} with τ {number(table.loc[name, 'kendall_tau'], 2)}" for name, text in words.items()]
    last = f"all three together with τ {number(table.loc['weights+hyper+accuracy', 'kendall_tau'], 2)}"
    assert f"At epoch 1 the final ranking is forecast by {', '.join(told)} and {last}." in caption
    stopped = study.table(study.artifacts.forecast("north") / "stopping.csv").query("epoch == 3 and stopped == 0.5")
    stopped = stopped.set_index("input")
    assert (
        "Stopping half of the networks at epoch 3 of 86 by a forecast from weights + accuracy so far keeps 99% of the "
        f"best tenth, where the accuracy so far alone keeps {stopped.loc['accuracy as it is', 'kept_best']:.0%}, and "
        f"saves {0.5 * 83 / 86:.0%} of the work."
    ) in caption
    assert (
        "No forecast here lets half of the networks be stopped before epoch 86 and keeps 95% of the best tenth."
    ) in page.one("figure", id="south-forecast").one("figcaption").text()


def test_figures_that_leave_something_out_say_so(page: Element) -> None:
    def caption(name: str) -> str:
        return page.one("figure", id=name).one("figcaption").text()

    assert "The best 15 of 22 and, where they rank lower, ◆ the published recipe and ◇ the best on" in caption(
        "north-scores"
    )
    assert "What lies below −0.25 is cut off." in caption("north-scores")
    assert "6 of 22, best first." in caption("north-predicted")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "leaderboard",
            "R2 of 8 feature sets and 4 predictors on north, south; the best on weights alone reaches 0.980",
        ),
        (
            "north-scores",
            "of 17 predictors with intervals; the best R2, 0.990, has DNN on hyperparameters + all weights",
        ),
        ("north-predicted", "on 19 held-out networks for 6 predictors"),
        ("north-activations", "of the best 10 predictors on networks with relu and tanh, with intervals"),
        ("north-accuracies", "of 40 networks: median {median}, 90 percent lie between {low} and {high}"),
        ("south-accuracies", "of 27 networks: median {median}, 90 percent lie between {low} and {high}"),
        ("south-learning_curves", "goes from 10.0% at epoch 0 to {median} at epoch 86"),
        ("distributions", "2 collections, by activation; medians: north {north}, south {south}"),
        ("north-importances", "first of all: {first}"),
    ],
)
def test_figures_are_described_with_their_numbers(name: str, words: str, page: Element, study: Study) -> None:
    accuracies = {name: study.final(name)["test_accuracy"] for name in NAMES}
    medians = {name: f"{np.median(values):.1%}" for name, values in accuracies.items()}
    own = accuracies.get(name.partition("-")[0], accuracies["north"])
    low, median, high = (f"{value:.1%}" for value in np.quantile(own, [0.05, 0.5, 0.95]))
    leaders = study.written("importances").query("collection == 'north' and predictor == 'catboost'")
    firsts = [
        leaders[leaders["features"] == features].sort_values("importance", ascending=False).iloc[0]
        for features in ("hyper.activation+probes", "hyper.learning_rate")
    ]
    first = "; ".join(f"{leader['name']} with {leader['importance']:.0%}" for leader in firsts)
    expected = words.format(low=low, median=median, high=high, first=first, **medians)
    assert expected in page.one("figure", id=name).one("img").attributes["alt"]


def test_terms_tell_the_ceiling_of_tau_of_each_collection(page: Element) -> None:
    terms = page.one("dl", **{"class": "terms"}).text()
    assert "Networks with equal accuracy leave at most 0.985 (north), 0.975 (south)." in terms


def test_parameters_that_determine_results_are_told(page: Element, study: Study) -> None:
    made = page.one("section", id="made").text()
    assert "(3 trials, 2-fold cross-validation)" in made
    assert "small print: 90% bootstrap intervals" in page.one("section", id="scores").text()
    shown = {row.one("th").text(): row.one("pre").text() for row in page.one("section", id="made").all("tr")}
    params = study.params.model_dump(mode="json", exclude_none=True)
    expected = ("seed", "populations", "imported", "recipes", "train", "features", "search", "forecast", "evaluate")
    assert tuple(shown) == expected
    for name in expected:
        entries = params[name] if isinstance(params[name], dict) else {}
        assert shown[name] == (
            " ".join(f"{key}: {json.dumps(value)}" for key, value in entries.items()) or str(params[name]).strip("{}")
        )
    assert re.search(r"cnnzoo \d+\.\d+.*numpy \d+\.\d+", made)


@pytest.mark.parametrize(("name", "listed", "more"), [("north", 4, 0), ("south", 20, 3)])
def test_diverged_networks_are_listed_up_to_twenty(
    name: str, listed: int, more: int, page: Element, study: Study
) -> None:
    section = page.one("section", id=name)
    table = pd.read_csv(study.artifacts.zoo(name) / "diverged.csv")
    columns = {"network": "network", "diverged epoch": "diverged_epoch"}
    columns |= {words: f"config.{words.replace(' ', '_')}" for words in ("activation", "optimizer", "learning rate")}
    columns |= {"w init": "config.w_init"}
    heads = [head.text() for head in section.one("table").one("thead").all("th")]
    assert sorted(heads) == sorted(columns)
    rows = [[cell.text() for cell in row.all("td")] for row in section.one("table").one("tbody").all("tr")]
    expected = table.head(20)[[columns[head] for head in heads]].to_dict("records")
    assert rows == [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in expected]
    assert len(rows) == listed
    assert (f"{more} more in diverged.csv" in section.text()) == bool(more)


# --- the script of the table ------------------------------------------------------------------------------------------

BROWSER = Path(__file__).parent / "browser.js"
"""As much of a browser's document as the script uses; prints what the table shows after some actions."""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_a_click_sorts_best_first_and_again_worst_first_and_filters_hide(page: Element, study: Study) -> None:
    table = page.one("table", id="leaderboard-table")
    heads = [head.attributes | {"text": head.text()} for head in table.one("thead").all("th")]
    rows = [
        {
            "data": row.attributes,
            "cells": [{"value": c.attributes.get("data-value"), "text": c.text()} for c in row.all("td")],
        }
        for row in table.one("tbody").all("tr")
    ]
    actions = [["click", 5], ["click", 5], ["click", 4], ["click", 7], ["click", 0], ["select", "collection", "south"]]
    given = {"heads": heads, "rows": rows, "script": page.one("script").text(), "actions": actions}
    script = re.search(r"<script>(.*?)</script>", (study.artifacts.report / "index.html").read_text(), re.DOTALL)
    given["script"] = script[1]  # type: ignore[index]
    told = subprocess.run(["node", BROWSER], input=json.dumps(given), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    best_tau, worst_tau, best_gain, least_error, by_name, filtered = json.loads(told.stdout)
    board = study.written("leaderboard")
    taus, gains, errors = (board[column].round(12).tolist() for column in ("kendall_tau", "r2_gain", "mae"))
    assert [taus[row] for row in best_tau] == sorted(taus, reverse=True)
    assert [taus[row] for row in worst_tau] == sorted(taus)
    is_recipe = board["published_recipe"].tolist()
    assert [is_recipe[row] for row in best_gain] == [False] * (len(board) - 2) + [True] * 2, (
        "rows without a gain stand last"
    )
    known = [gains[row] for row in best_gain[:-2]]
    assert known == sorted(known, reverse=True)
    assert [errors[row] for row in least_error] == sorted(errors), "of errors the least is best"
    collections = board["collection"].tolist()
    assert [collections[row] for row in by_name] == sorted(collections)
    assert [collections[row] for row in filtered] == [name for name in collections if name == "south"]
