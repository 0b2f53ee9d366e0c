"""The command `cnnzoo`: what each command and option does, seen from outside: files, output, exit codes.

The commands that need MLflow are tested in tests/tracking/test_tracking_commands.py.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from builders import COLLECTION, make_collection
from cnnzoo import config, zoo
from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import counted
from cnnzoo.search.runs import search
from cnnzoo.zoo import Collection
from known_machine import plan_on_known_machine
from tuned import untracked
from zoos import PARAMS, make_params, make_project

PYTHON_M = [sys.executable, "-m", "cnnzoo"]
INSTALLED = [str(Path(sys.executable).with_name("cnnzoo"))]
OPTIONS = {
    "check": {"path", "--lock"},
    "plan": {"--collections", "--networks", "--epochs", "--cluster", "--rate", "--price", "--root"},
    "ui": {"--port", "--root"},
    "track": {"collection", "--root"},
    "score": {"files", "--activation", "--collection", "--predictor", "--features", "--neighbours", "--json", "--root"},
    "prune": {"--remove", "--root"},
    "register": {"collection", "--root"},
    "publish": {"collection", "folder", "--creator", "--license", "--version", "--url", "--root"},
    "import-zoo": {"source", "--name", "--dataset", "--root"},
}
"""Every command and all that it takes; whoever adds one adds a test that fails when it does nothing."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)


def succeed(*arguments: object) -> str:
    """Run a command that must succeed; return what it printed to standard output."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*arguments: object) -> str:
    """Run a command that must fail with one error message on standard error, and nothing else."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


def write_params(root: Path, params: config.Params) -> None:
    """Write params.yaml (JSON is YAML)."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(params.model_dump_json(indent=1), encoding="utf-8")


# --- the command itself ---


def test_commands_and_options_are_those_that_are_tested():
    commands = typer.main.get_command(app).commands
    assert {name: {p.opts[0] for p in command.params} for name, command in commands.items()} == OPTIONS


def test_help_lists_every_command_and_imports_nothing_heavy():
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cnnzoo", "--help"], capture_output=True, text=True, check=True
    )
    for name in OPTIONS:
        assert re.search(rf"\b{name}  ", told.stdout), name
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "mlflow", "pandas", "scipy", "sklearn", "lightning", "optuna", "catboost"}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_command_explains_its_options(name):
    told = succeed(name, "--help")
    for option in OPTIONS[name]:
        assert re.search(rf"{option}\b", told, re.IGNORECASE), option


def test_no_command_shows_the_help_and_an_unknown_one_is_told():
    for arguments, words in (((), "import-zoo"), (("chek",), "No such command 'chek'")):
        result = run(*arguments)
        assert result.exit_code == 2
        assert words in result.output


@pytest.mark.slow
def test_the_module_and_the_installed_command_are_the_same(tmp_path):
    for arguments, code in ((["--help"], 0), (["check"], 2), (["check", str(tmp_path / "nowhere")], 1)):
        told = [
            subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
            for command in (PYTHON_M, INSTALLED)
        ]
        assert [result.returncode for result in told] == [code, code]
        module, installed = (result.stdout + result.stderr for result in told)
        assert re.sub("python[0-9.]* -m cnnzoo", "cnnzoo", module).split() == installed.split()
        assert module


def test_publish_writes_what_its_options_say(tmp_path):
    zoo = make_collection(tmp_path / "data")
    write_params(tmp_path, make_params({COLLECTION: 12}, ["hyper"]))
    target = tmp_path / "out"
    options = (
        "--creator",
        "Ada",
        "--creator",
        "Bob",
        "--license",
        "MIT",
        "--version",
        "3.0",
        "--url",
        "https://x.org/y",
    )
    told = succeed("publish", COLLECTION, target, *options, "--root", tmp_path)
    assert f"{target}: 12 networks, 108 checkpoints, " in told
    assert f"hf upload-large-folder --repo-type dataset NAME/{COLLECTION} {target}" in told
    assert (target / "weights.npy").read_bytes() == (zoo / "weights.npy").read_bytes()
    citation = (target / "CITATION.cff").read_text()
    assert all(word in citation for word in ('"Ada"', '"Bob"', "license: MIT", '"3.0"', "https://x.org/y"))
    assert "- 12 trained by the " in (target / "README.md").read_text()
    assert "must be a new or empty folder" in fail("publish", COLLECTION, target, *options, "--root", tmp_path)
    assert "`tyny`" in fail("publish", "tyny", tmp_path / "b", *options, "--root", tmp_path).replace("'", "`")


def test_ctrl_c_ends_with_130_and_one_message(tmp_path):
    """The command waits for a params.yaml that is a pipe; once it reads it is interrupted.

    A signal that comes just before the read begins is heard when the read ends: so the pipe is closed after it.
    """
    os.mkfifo(tmp_path / "params.yaml")
    command = [*PYTHON_M, "import-zoo", str(tmp_path), "--root", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - background jobs ignore it
    )
    with (tmp_path / "params.yaml").open("w"):  # opens when the command does
        process.send_signal(signal.SIGINT)
    printed, message = process.communicate()
    assert (process.returncode, printed) == (130, "")
    assert message == "error: interrupted (SIGINT). Run the same command again: it goes on from what is finished.\n"


# --- check ---


def test_check_tells_what_a_sound_collection_holds(tmp_path):
    folder = make_collection(tmp_path, networks=4)
    assert (
        succeed("check", folder)
        == f"{folder}: valid, in the exact form; 4 networks, 36 checkpoints of 4,970 parameters\n"
    )


def break_weights(folder: Path) -> None:
    weights = np.load(folder / "weights.npy")
    weights[[4, 20], 7] = np.nan
    np.save(folder / "weights.npy", weights)


def break_layout(folder: Path) -> None:
    text = (folder / "layout.csv").read_text().replace("dense/bias", "dense/bios")
    (folder / "layout.csv").write_text(text)


def break_split(folder: Path) -> None:
    lines = (folder / "split.csv").read_text().split()
    (folder / "split.csv").write_text("\n".join([lines[1], *lines[1:]]) + "\n")


def remove_metrics(folder: Path) -> None:
    (folder / "metrics.csv.gz").unlink()


@pytest.mark.parametrize(
    "faults",
    [[break_weights], [break_layout], [break_split], [remove_metrics], [break_weights, break_layout, break_split]],
)
def test_check_of_a_faulty_collection_fails_and_lists_every_problem(tmp_path, faults):
    folder = make_collection(tmp_path, networks=4)
    for fault in faults:
        fault(folder)
    message = fail("check", folder)
    assert "valid" not in message.replace("invalid", "")
    first, *listed = message.splitlines()
    assert first == f"error: {folder}: {counted(len(listed), 'problem')}"
    assert len(listed) >= len(faults)
    names = {break_weights: "weights.npy", break_layout: "layout.csv", break_split: "split.csv"}
    for fault in faults:
        assert any(names.get(fault, "metrics.csv.gz") in line for line in listed)
    assert listed == [f"  - {problem}" for problem in zoo.check(folder)]


def test_check_of_no_folder_fails(tmp_path):
    assert f"{tmp_path / 'nowhere'}: no such folder" in fail("check", tmp_path / "nowhere")


@pytest.fixture
def locked(tmp_path):
    """Return a collection and a dvc.lock, made by DVC, that names its bytes."""
    folder = make_collection(tmp_path / "data/zoo", networks=4)
    (tmp_path / "dvc.yaml").write_text(
        f"stages:\n  made:\n    cmd: 'true'\n    outs: [{folder.relative_to(tmp_path)}]\n"
    )
    for command in (["init", "--no-scm", "--quiet"], ["commit", "--force", "--quiet"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    return folder, tmp_path / "dvc.lock"


def test_check_tells_whether_a_collection_has_the_bytes_of_a_lock(locked):
    folder, lock = locked
    assert succeed("check", folder, "--lock", lock).endswith(f"; the bytes that {lock} names\n")
    other = lock.with_name("other.lock")
    other.write_text(re.sub("md5: [0-9a-f]{4}", "md5: 0000", lock.read_text()))
    assert fail("check", folder, "--lock", other).endswith(f"; other bytes than those that {other} names\n")


@pytest.mark.parametrize("content", [None, b"", b"stages: 3", b"\xff\xfe", b"stages: {a: {outs: [{path: b}]}}", b"{"])
def test_check_against_what_is_no_lock_names_it(tmp_path, content):
    folder, lock = make_collection(tmp_path, networks=4), tmp_path / "some.lock"
    if content is not None:
        lock.write_bytes(content)
    assert f"{lock}: cannot be read as a dvc.lock" in fail("check", folder, "--lock", lock)


def test_check_against_a_lock_without_the_collection_says_so(tmp_path):
    folder, lock = make_collection(tmp_path, networks=4), tmp_path / "dvc.lock"
    lock.write_text("stages: {a: {outs: [{path: data/other, md5: '0'}]}}")
    assert f"{lock}: names no output {folder}" in fail("check", folder, "--lock", lock)


# --- plan ---


@pytest.fixture
def planned(tmp_path, monkeypatch) -> Path:
    """A project with two collections of its own and an imported one, on a machine of known speed."""
    plan_on_known_machine(monkeypatch)
    values = config.load(PARAMS).model_dump()
    for name, word in (("train_fraction", 0.25), ("activation", "relu"), ("optimizer", "sgd")):
        values["recipes"][name] = {"choice": [word]}
    small = {"dataset": "mnist5k", "networks": 10, "minibatch": 64}
    values["populations"] = {"first": small, "second": small | {"networks": 20}}
    values["imported"] = {"abroad": {"dataset": "mnist"}}
    values["collections"] = ["abroad", "first"]
    values["runtime"]["threads"] = 2
    write_params(tmp_path / "project", config.validate(values, "test"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "project"


def table(*arguments: object) -> dict[str, list[str]]:
    """Run `cnnzoo plan`; return the table's rows by their labels, under "" the collections."""
    rows = {}
    for line in succeed("plan", *arguments).splitlines():
        if line and line[0] in "│┃":
            label, *cells = (cell.strip() for cell in re.split("[│┃]", line)[1:-1])
            rows[label] = cells
    return rows


def test_plan_prints_hand_computed_numbers(planned):
    """Passes: 960 images, 86 epochs. 500 rounds of two networks take 10.32 s of training and 0.9 s of evaluation
    each; 4 cohorts 0.159 s of Lightning's own time. The largest cohort has 256 networks."""
    assert table("--collections", "first", "--networks", 1000, "--root", planned) == {
        "": ["first"],
        "networks": ["1,000"],
        "cohorts": ["4"],
        "image passes": ["83 million"],
        "images/s, all in all": ["14,715"],
        "time": ["1.56 hours"],
        "disk": ["0.36 GB"],
        "memory": ["0.83 GB"],
        "runs in MLflow": ["1,000 (0.015 GB)"],
    }


def test_plan_options_say_which_collections_and_what_if(planned, monkeypatch):
    networks = [["10", "20"], ["20"], ["20", "10"]]
    for arguments, names, expected in (
        ((), ["first", "second"], networks[0]),
        (("--collections", "second"), ["second"], networks[1]),
        (("--collections", "second, first"), ["second", "first"], networks[2]),
        (("--networks", "99"), ["first", "second"], ["99", "99"]),
    ):
        rows = table(*arguments, "--root", planned)
        assert (rows[""], rows["networks"]) == (names, expected)
    # 100 networks, 960 images an epoch; two checkpoints of one epoch, nine of all, in the shards and in the matrix
    many = ("--collections", "first", "--networks", 100, "--root", planned)
    assert table(*many, "--epochs", 200)["image passes"] == ["19 million"]
    assert table(*many, "--epochs", 1000)["image passes"] == ["96 million"]
    assert [table(*many, "--epochs", epochs)["disk"] for epochs in (1, 86)] == [["0.01 GB"], ["0.04 GB"]]
    monkeypatch.chdir(planned)
    assert table()["networks"] == ["10", "20"]


def test_plan_knows_published_collections_that_params_do_not_define(planned):
    """A quarter of 50,000 images are 24 minibatches of 512: 12,288 images, 86 epochs, 40 networks."""
    rows = table("--collections", "cifar10,first", "--networks", 40, "--root", planned)
    assert rows[""] == ["cifar10", "first"]
    assert rows["image passes"] == ["42 million", "3 million"]


def test_plan_refuses_what_is_not_there_or_out_of_range(planned):
    assert "did you mean `second`" in fail("plan", "--collections", "secund", "--root", planned)
    assert "params.yaml: cannot be read" in fail("plan")
    for option, value in (("--networks", 1), ("--epochs", 0)):
        assert run("plan", option, value, "--root", planned).exit_code == 2


def test_plan_of_a_cluster_prints_hand_computed_numbers(planned):
    """A network takes 82,560 images of training and a third of 18,000 of evaluation, 8.856 s at the given rate: of
    100 networks on 200 cores each has one, and each piece has 0.159 s of Lightning's own time."""
    told = ("--cluster", "50x4", "--rate", "core=10000", "--price", "4=360", "--root", planned)
    assert table("--collections", "first", "--networks", 100, *told) == {
        "": ["first"],
        "cohorts": ["1"],
        "pieces": ["100"],
        "time": ["0.2 min"],
        "utilisation": ["49.1%"],
        "time, undivided": ["14.8 min"],
        "utilisation, undivided": ["0.5%"],
        "price": ["45.08"],
    }


def test_plan_of_a_cluster_says_where_its_rates_come_from(planned):
    first = ("plan", "--collections", "first", "--root", planned, "--cluster")
    measured = " ".join(succeed(*first, "3x4").split())
    assert "on 3 machines with 4 cores, simulated" in measured
    assert "Rates: core as measured on this machine." in measured
    assert "price" not in measured
    assert "leaves the cores idle" not in measured
    mixed = " ".join(succeed(*first, "1x4,2xH100", "--rate", "H100=2e7/264", "--rate", "core=9e4").split())
    assert "on 1 machine with 4 cores and 2 H100, simulated" in mixed
    assert "Rates: H100 20,000,000 images/s (given), core 90,000 images/s (given)." in mixed
    assert "leaves the cores idle" in mixed


def test_plan_refuses_clusters_that_it_cannot_know(planned):
    assert "nobody has said how fast `H100` trains" in fail("plan", "--cluster", "2xH100", "--root", planned)
    assert "`many` is no group of a cluster" in fail("plan", "--cluster", "many", "--root", planned)
    for option in ("--rate", "--price"):
        assert "are those of a cluster" in fail("plan", option, "core=1", "--root", planned)


# --- score ---

SETS = ["weights.3", "hyper.activation+weights.3"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Artifacts:
    """Two collections, two predictors, two feature sets."""
    sizes = {"small": 24, "other": 30}
    params = make_params(sizes, SETS, predictors=["linear", "catboost"], trials=1, max_trees=5)
    shaped = {name: population.model_copy(update={"num_units": 4}) for name, population in params.populations.items()}
    params = params.model_copy(update={"populations": shaped})
    artifacts = make_project(tmp_path_factory.mktemp("tuned"), sizes, SETS)
    write_params(artifacts.root, params)
    for name in sizes:
        search(artifacts, params, name, untracked)
    return artifacts


@pytest.fixture(scope="module")
def networks(tuned) -> list[Path]:
    """Files of two networks that do not tell their activation."""
    zoo = Collection.open(tuned.zoo("small"))
    files = [tuned.root / f"{name}.npy" for name in ("one", "two")]
    for file, row in zip(files, zoo.final()[[3, 8]], strict=True):
        np.save(file, zoo.weights[row])
    return files


def score(tuned: Artifacts, *arguments: object) -> dict[str, Any]:
    return json.loads(succeed("score", *arguments, "--json", "--root", tuned.root))


@pytest.mark.slow
def test_score_answers_of_the_predictor_and_features_asked_for(tuned, networks):
    answers = {}
    for predictor in ("linear", "catboost"):
        for features in SETS:
            options = ("--predictor", predictor, "--features", features, "--activation", "relu")
            answer = score(tuned, networks[0], *options)
            assert (answer["predictor"]["predictor"], answer["predictor"]["features"]) == (predictor, features)
            answers[predictor, features] = answer["networks"][0]["predicted"]
    assert len(set(answers.values())) == 4


def test_score_asks_the_first_collection_unless_another_is_named(tuned, networks):
    options = ("--predictor", "linear", "--features", "weights.3")
    default, named, other = (
        score(tuned, networks[0], *options, *more)
        for more in ((), ("--collection", "small"), ("--collection", "other"))
    )
    assert default == named
    assert (default["collection"], other["collection"]) == ("small", "other")
    assert [near["network"][:6] for near in other["networks"][0]["nearest"]] == ["other/"] * 3
    assert default["networks"][0]["nearest"][0]["network"] == "small/000003"


def test_score_takes_the_activation_from_its_option(tuned, networks):
    options = ("--predictor", "linear", "--features", SETS[1], "--root", tuned.root)
    both = score(tuned, networks[0], *options)["networks"]
    assert [(network["activation"], network["assumed"]) for network in both] == [("relu", True), ("tanh", True)]
    table = succeed("score", networks[0], *options)
    assert "if relu" in table
    assert "if tanh" in table
    predicted = [score(tuned, networks[0], *options, "--activation", word)["networks"] for word in ("relu", "tanh")]
    assert [network["predicted"] for network in both] == pytest.approx([one[0]["predicted"] for one in predicted])
    assert predicted[0][0]["predicted"] != predicted[1][0]["predicted"]
    assert "relu, tanh" in fail("score", networks[0], *options, "--activation", "gelu")


@pytest.mark.parametrize(("options", "expected"), [((), 3), (("--neighbours", 0), 0), (("--neighbours", 5), 5)])
def test_score_names_as_many_networks_as_asked_for(options, expected, tuned, networks):
    (network,) = score(tuned, networks[0], "--features", "weights.3", *options)["networks"]
    assert [near["rank"] for near in network["nearest"]] == list(range(1, expected + 1))


def test_score_answers_for_every_file_in_their_order(tuned, networks):
    options = ("--features", "weights.3", "--predictor", "linear")
    both = score(tuned, networks[1], networks[0], *options)["networks"]
    assert [network["name"] for network in both] == [str(networks[1]), str(networks[0])]
    assert [network["nearest"][0]["network"] for network in both] == ["small/000008", "small/000003"]


def test_score_prints_a_table_without_json(tuned, networks):
    arguments = (*networks, "--features", "weights.3", "--predictor", "linear")
    told = succeed("score", *arguments, "--root", tuned.root)
    assert not told.lstrip().startswith("{")
    for network in score(tuned, *arguments)["networks"]:
        assert f"{network['predicted']:.1%}" in told
        assert f"{network['low']:.1%} to {network['high']:.1%}" in told
    assert "linear on weights.3, learned from small" in told


def test_score_reads_the_project_of_the_current_folder_by_default(tuned, networks, monkeypatch):
    expected = score(tuned, networks[0], "--features", "weights.3")
    monkeypatch.chdir(tuned.root)
    assert json.loads(succeed("score", networks[0], "--features", "weights.3", "--json")) == expected


# --- import-zoo ---


@pytest.fixture
def project(tmp_path) -> Artifacts:
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(PARAMS, root / "params.yaml")
    return Artifacts(root)


def test_import_takes_name_and_data_set_from_the_source_unless_told(project, tmp_path):
    folder = make_collection(tmp_path / "published", networks=4)
    told = succeed("import-zoo", folder, "--root", project.root)
    assert told.splitlines()[0] == f"{project.zoo('tiny')}: 4 networks on mnist5k, 36 checkpoints."
    assert "params.yaml now has tiny in `imported` and `collections`" in told
    assert f"dvc add {project.zoo('tiny')} " in told
    told = succeed("import-zoo", folder, "--name", "abroad", "--dataset", "cifar10", "--root", project.root)
    assert told.splitlines()[0] == f"{project.zoo('abroad')}: 4 networks on cifar10, 36 checkpoints."
    params = config.load(project.params)
    assert {name: entry.dataset for name, entry in params.imported.items()} == {"tiny": "mnist5k", "abroad": "cifar10"}
    assert params.collections == ["mnist5k", "tiny", "abroad"]
    for name in ("tiny", "abroad"):
        assert succeed("check", project.zoo(name)).endswith(
            "valid, in the exact form; 4 networks, 36 checkpoints of 4,970 parameters\n"
        )


def test_import_that_is_refused_fails_and_changes_nothing(project, tmp_path):
    before = project.params.read_bytes()
    folder = make_collection(tmp_path / "published", networks=4)
    break_weights(folder)
    assert "not a sound collection" in run("import-zoo", folder, "--root", project.root).stderr
    for arguments in (
        (folder,),
        (tmp_path / "none.tar",),
        (folder, "--dataset", "imagenet"),
        (folder, "--name", "A b"),
    ):
        result = run("import-zoo", *arguments, "--root", project.root)
        assert (result.exit_code, result.stdout) == (1, "")
    assert project.params.read_bytes() == before
    assert not list((project.root / "data" / "zoo").glob("*"))
