"""What params.yaml alone decides is refused before any work; faults of the machine are one message."""

import sys

import pytest

from cnnzoo.config import Params, validate
from cnnzoo.core.errors import CnnzooError, counted
from cnnzoo.stages.entry import explain_faults, run_stage
from cnnzoo.stages.feasible import check_feasible
from small_project import set_key, small_params


def params(**changes: object) -> Params:
    values = small_params()
    for key, value in changes.items():
        set_key(values, key.replace("__", "."), value)
    return validate(values, "test")


def problems(**changes: object) -> str:
    with pytest.raises(CnnzooError) as refused:
        check_feasible(params(**changes), "params.yaml")
    return str(refused.value)


def test_what_can_be_done_passes():
    check_feasible(params(), "params.yaml")


def test_a_minibatch_larger_than_the_smallest_subset_is_refused():
    changes = {"populations__alpha__minibatch": 500, "recipes__train_fraction": {"choice": [0.1, 1.0]}}
    assert "`populations.alpha`: `populations.alpha.minibatch=500` is larger than the 400 images" in problems(**changes)
    check_feasible(params(**(changes | {"populations__alpha__minibatch": 400})), "params.yaml")


def test_more_layers_than_the_images_have_room_for_are_refused():
    assert "`populations.beta`: images of 28 x 28 pixels are too small for `num_layers=4`" in problems(
        populations__beta__num_layers=4
    )


@pytest.mark.parametrize(("networks", "folds", "least"), [(23, 2, 12), (23, 6, 12), (39, 10, 20)])
def test_fewer_networks_than_the_folds_need_are_refused(networks, folds, least):
    said = problems(populations__alpha__networks=networks, search__folds=folds, populations__beta__networks=1000)
    assert f"half of {networks} networks train the predictors, at least {least} are needed" in said
    assert f"Raise `networks` to {2 * least} or more" in said
    changes = {"populations__alpha__networks": 2 * least, "populations__beta__networks": 1000, "search__folds": folds}
    check_feasible(params(**changes), "params.yaml")


def test_a_collection_that_no_predictor_learns_from_may_be_small():
    check_feasible(params(populations__beta__networks=2, collections=["alpha"]), "params.yaml")


def test_everything_that_is_wrong_is_said_at_once():
    said = problems(populations__alpha__networks=4, populations__beta__minibatch=60_000)
    assert said.startswith("params.yaml is not valid:\n  - `populations.alpha`: half of 4 networks")
    assert "\n  - `populations.beta`: `populations.beta.minibatch=60000`" in said


def test_no_stage_begins(tmp_path, monkeypatch, capsys):
    from ruamel.yaml import YAML

    values = small_params({"populations.alpha.networks": 4})
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(values, file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage", "alpha"])
    with pytest.raises(SystemExit) as ended:
        run_stage(pytest.fail, "collection")
    assert ended.value.code == 1
    assert "half of 4 networks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "not enough memory (MemoryError). Lower `runtime.threads`"),
        (MemoryError("Unable to allocate 5.2 GiB"), "not enough memory (Unable to allocate 5.2 GiB). Lower"),
        (OSError("libx.so: failed to map segment from shared object"), "not enough memory (libx.so: failed to map"),
        (RuntimeError("CUDA out of memory. Tried"), "not enough memory (CUDA out of memory. Tried). Lower"),
        (RuntimeError("Traceback ...\n  File\nMemoryError"), "not enough memory (MemoryError). Lower"),  # in a worker
        (RuntimeError("can't start new thread"), "no more threads can be started here. Lower `runtime.threads`"),
    ],
)
def test_too_little_memory_and_too_few_threads_are_one_message(error, says, capsys):
    def work() -> None:
        raise error

    assert explain_faults(work) == 1
    assert capsys.readouterr().err.startswith(f"error: {says}")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 networks"), (1, "1 network"), (2, "2 networks"), (30_000, "30,000 networks")]
)
def test_one_is_one(number, text):
    assert counted(number, "network") == text


def test_so_few_groups_that_folds_would_be_empty_are_refused():
    said = problems(populations__alpha__networks=200, populations__alpha__replicates=100)
    assert "half of 2 groups train the predictors" in said
    assert "or more, or leave `alpha` out of `collections`" in said
