"""Trials on disk: what a study that goes on, grows, shrinks or was damaged ends with, and what it does not repeat."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from samples import make_sample, make_task

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.search import Journal, tune

TRAIN = make_sample(24)
SHIFTS = {2: 0.3, 5: 9.0, 8: 0.1, 11: 9.0, 12: 9.0}
"""Trials 5, 11 and 12 are certainly cut short; those from 10 on are drawn by what was learned from the others."""


def go_on(scripted, root: Path, trials: int, **changes) -> tuple[list, list[int]]:
    """All trials of a study that goes on in `root`, and the numbers of those that were computed now."""
    scripted.forget(SHIFTS)
    task = make_task(trials=trials, **changes)
    study = tune(task, TRAIN, lambda trial: None, Journal.of(Artifacts(root), task, TRAIN))
    shown = [(one.number, one.state.name, one.value, one.params, one.intermediate_values) for one in study.trials]
    return shown, sorted({number for number, _ in scripted.fits})


def the_journal(root: Path) -> Path:
    (found,) = Artifacts(root).studies("tiny").glob("*.journal")
    return found


def test_a_larger_budget_computes_the_new_trials_only_and_ends_as_if_all_had_been_made_at_once(scripted, tmp_path):
    at_once, computed = go_on(scripted, tmp_path / "at_once", 14)
    assert computed == list(range(14))
    assert [one[1] for one in at_once].count("PRUNED") >= 3
    for trials, expected in ((4, [0, 1, 2, 3]), (4, []), (11, list(range(4, 11))), (14, [11, 12, 13]), (14, [])):
        found, computed = go_on(scripted, tmp_path / "growing", trials)
        assert found == at_once[:trials]
        assert computed == expected


def test_a_smaller_budget_takes_the_first_trials(scripted, tmp_path):
    whole, _ = go_on(scripted, tmp_path, 6)
    assert go_on(scripted, tmp_path, 3) == (whole[:3], [])
    assert go_on(scripted, tmp_path, 6) == (whole, []), "the others are still there"


@pytest.mark.parametrize("change", [{"seed": 8}, {"folds": 3}, {"features": "others"}, {"predictor": "dnn"}], ids=str)
def test_trials_of_another_search_are_neither_taken_nor_lost(change, scripted, tmp_path):
    before, _ = go_on(scripted, tmp_path, 2)
    found, computed = go_on(scripted, tmp_path, 2, **change)
    assert computed == [0, 1]
    assert found != before
    assert len(list(Artifacts(tmp_path).studies("tiny").glob("*.journal"))) == 2
    assert go_on(scripted, tmp_path, 2) == (before, [])


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_line_that_a_killed_process_did_not_finish_costs_nothing(scripted, tmp_path, share):
    whole, _ = go_on(scripted, tmp_path / "whole", 5)
    go_on(scripted, tmp_path / "killed", 3)
    path = the_journal(tmp_path / "killed")
    content = path.read_bytes()
    line = content.splitlines()[1]
    path.write_bytes(content + line[: max(1, int(share * len(line)))])
    Path(f"{path}.lock").symlink_to(path)
    assert go_on(scripted, tmp_path / "killed", 5) == (whole, [3, 4])
    assert go_on(scripted, tmp_path / "killed", 5) == (whole, []), "what was added after it can be read"


def test_a_damaged_journal_costs_its_trials_and_nothing_else(scripted, tmp_path, caplog):
    whole, _ = go_on(scripted, tmp_path, 2)
    path = the_journal(tmp_path)
    for damaged in (b"not a journal\n", path.read_bytes().replace(b'"op_code"', b'"operation"')):
        path.write_bytes(damaged)
        assert go_on(scripted, tmp_path, 2) == (whole, [0, 1])
        assert "damaged" in caplog.text
        caplog.clear()


def test_a_journal_gives_back_every_kind_of_trial_as_it_was(tmp_path):
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=5))

    def objective(trial):
        x = trial.suggest_float("x", 1e-8, 1.0, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        trial.report([0.1 + x, 9.0, np.nan][trial.number], 0)
        if trial.should_prune() and trial.number == 1:
            raise optuna.TrialPruned
        return float("nan") if trial.number == 2 else x + (kind == "a")

    study.optimize(objective, n_trials=3)
    journal = Journal(tmp_path / "new" / "study.journal", "a name")
    for trial in study.trials:
        journal.add(trial)
    again = Journal(tmp_path / "new" / "study.journal", "a name").trials
    assert [trial.state.name for trial in again] == ["COMPLETE", "PRUNED", "FAIL"]
    for old, new in zip(study.trials, again, strict=True):
        assert (old.number, old.params, old.distributions, old.value) == (
            new.number, new.params, new.distributions, new.value,
        )  # fmt: skip
        assert repr(old.intermediate_values) == repr(new.intermediate_values)
        assert old.duration == new.duration
