import json
import socket
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow_record import client_of, experiment_id, runs_of, write_shards

from builders import COLLECTION, make_recipes
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.hyperparameters import SAMPLED
from cnnzoo.tracking import experiment_links, search_run, serve_ui, sync_zoo
from cnnzoo.tracking.notes import VIEW

RECIPES = make_recipes(3)


def make_record(artifacts: Artifacts) -> None:
    sync_zoo(artifacts, COLLECTION, write_shards(artifacts, RECIPES), RECIPES)
    with search_run(artifacts, COLLECTION, "linear", "hyper", {}):
        pass


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_links_lead_to_the_table_of_each_experiment(artifacts: Artifacts) -> None:
    make_record(artifacts)
    links = experiment_links(artifacts, 5001)
    assert sorted(links) == ["predictors/tiny", "zoo/tiny"]
    for name, link in links.items():
        assert link.startswith(f"http://127.0.0.1:5001/#/experiments/{experiment_id(artifacts, name)}/runs?")


def test_the_saved_view_shows_columns_that_exist_best_network_first(artifacts: Artifacts) -> None:
    make_record(artifacts)
    query = parse_qs(urlsplit(experiment_links(artifacts)["zoo/tiny"]).fragment.partition("?")[2])
    assert query["workflowType"] == ["machine_learning"]
    experiment = client_of(artifacts).get_experiment_by_name("zoo/tiny")
    assert experiment is not None
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{query['viewStateShareKey'][0]}"])
    state = json.loads(view["state"])
    order = f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"
    runs = runs_of(artifacts, state["searchFilter"], order=[order])
    accuracies = [run.data.metrics["test_accuracy"] for run in runs]
    assert accuracies == sorted(accuracies, reverse=True)
    data = runs[0].data
    known = {f"metrics.`{key}`" for key in data.metrics} | {f"params.`{key}`" for key in data.params}
    assert set(state["selectedColumns"]) - known == {"tags.`rows`"}


def columns_of(artifacts: Artifacts) -> tuple[list[str], dict[str, int]]:
    """Return the order of the columns of the networks' saved view, and their widths in pixels."""
    experiment = client_of(artifacts).get_experiment(experiment_id(artifacts))
    state = json.loads(json.loads(experiment.tags[f"mlflow.sharedViewState.{VIEW}"])["state"])
    assert set(state["selectedColumns"]) == set(state["columnOrder"]) - ALWAYS_SHOWN
    return state["columnOrder"], state["columnWidths"]


ALWAYS_SHOWN = {"attributes.`Run Name`", "runDateAndNestInfo"}
CHECKBOX, MENU_AND_MARGINS = 73, 248
"""Pixels of MLflow 3.17, measured on docs/mlflow.png."""


def test_accuracy_and_the_hyperparameters_stand_side_by_side_in_a_window_of_1440_pixels(artifacts: Artifacts) -> None:
    make_record(artifacts)
    order, widths = columns_of(artifacts)
    assert order[2] == "metrics.`test_accuracy`"
    assert set(order[3:11]) == {f"params.`{name}`" for name in SAMPLED}
    assert set(widths) == set(order[:11])
    assert CHECKBOX + sum(widths.values()) <= 1440 - MENU_AND_MARGINS
    assert CHECKBOX + sum(widths[name] for name in order[:8]) <= 1186 - MENU_AND_MARGINS


def test_an_experiment_of_an_earlier_version_gets_the_view_of_this_one(artifacts: Artifacts) -> None:
    make_record(artifacts)
    now = columns_of(artifacts)
    client_of(artifacts).set_experiment_tag(experiment_id(artifacts), f"mlflow.sharedViewState.{VIEW}", "{}")
    sync_zoo(artifacts, COLLECTION, write_shards(artifacts, RECIPES), RECIPES)
    assert columns_of(artifacts) == now


@pytest.mark.slow
def test_the_ui_becomes_a_server_for_this_machine_only(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_record(artifacts)
    calls: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda *arguments: calls.append(arguments))
    port = free_port()
    serve_ui(artifacts, port)
    ((program, command, environment),) = calls
    assert program == sys.executable
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == str(port)
    assert command[command.index("--workers") + 1] == "1"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert f"zoo/tiny: http://127.0.0.1:{port}/#/experiments/" in capsys.readouterr().out


def test_a_port_in_use_is_named(artifacts: Artifacts) -> None:
    make_record(artifacts)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CnnzooError, match=f"port {port} .* --port {port + 1}"):
            serve_ui(artifacts, port)


def test_an_empty_record_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CnnzooError, match="dvc repro"):
        serve_ui(Artifacts(tmp_path))
    assert list(tmp_path.iterdir()) == []
