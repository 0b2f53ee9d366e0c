import errno
import os
import sys

import pytest

from cnnzoo.core.errors import CnnzooError
from cnnzoo.stages.entry import explain_faults, run_stage
from imports import ROOT


def failing_with(error):
    def work():
        raise error

    return work


def test_work_that_succeeds_says_nothing(capsys):
    assert explain_faults(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_fault_of_the_user_is_one_message_without_a_traceback(capsys):
    assert explain_faults(failing_with(CnnzooError("params.yaml: `train.engin` is unknown"))) == 1
    assert capsys.readouterr() == ("", "error: params.yaml: `train.engin` is unknown\n")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free some space and run the same command again: what is finished is kept"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "writable"),
        (errno.EACCES, "right to write"),
        (errno.EPERM, "right to write"),
    ],
)
def test_fault_of_the_machine_names_the_file_and_the_remedy(capsys, number, remedy):
    assert explain_faults(failing_with(OSError(number, os.strerror(number), "data/zoo/weights.npy"))) == 1
    printed, message = capsys.readouterr()
    assert printed == ""
    assert message.startswith(f"error: {os.strerror(number)} (data/zoo/weights.npy). ")
    assert remedy in message
    assert message.count("\n") == 1


def test_fault_of_the_machine_without_a_file_is_told_all_the_same(capsys):
    assert explain_faults(failing_with(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))) == 1
    assert capsys.readouterr().err.startswith("error: No space left on device. Free")


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EIO, "broken disk"), FileNotFoundError("gone")])
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error)) as caught:
        explain_faults(failing_with(error))
    assert caught.value is error


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(1)])  # Lightning turns one into the other
def test_an_interruption_says_how_to_go_on(interruption, capsys):
    assert explain_faults(failing_with(interruption)) == 130
    assert "Run the same command again" in capsys.readouterr().err


def test_a_fault_that_names_a_file_is_told_with_it(capsys):
    assert explain_faults(failing_with(NotADirectoryError(errno.ENOTDIR, "Not a directory", "data/recipes"))) == 1
    assert capsys.readouterr().err.startswith("error: Not a directory (data/recipes). Look at what lies there")


def run(stage, monkeypatch, folder, *arguments, target="collection"):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    with pytest.raises(SystemExit) as exited:
        run_stage(stage, target)
    return exited.value.code


def test_stage_gets_its_target_the_parameters_and_the_files_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    contexts = []
    assert run(contexts.append, monkeypatch, tmp_path, "mnist5k") == 0
    assert contexts[0].target == "mnist5k"
    assert contexts[0].params.seed == 20200226
    assert contexts[0].artifacts.params.resolve() == tmp_path / "params.yaml"
    assert run(contexts.append, monkeypatch, tmp_path, target=None) == 0
    assert contexts[1].target == ""


def test_stage_without_its_target_explains_its_use(tmp_path, monkeypatch, capsys):
    assert run(pytest.fail, monkeypatch, tmp_path) == 2
    assert "collection" in capsys.readouterr().err


def test_a_failing_stage_ends_with_exit_code_1_and_a_message_on_standard_error(tmp_path, monkeypatch, capsys):
    """DVC takes a stage for done if its exit code is 0."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert run(failing_stage, monkeypatch, tmp_path, "mnist5k") == 1
    assert capsys.readouterr() == ("", "error: data/recipes: not there\n")


def failing_stage(_):
    raise CnnzooError("data/recipes: not there")


def test_a_stage_over_all_collections_does_not_start_beside_files_of_others(tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "data" / "zoo" / "old").mkdir(parents=True)
    assert run(pytest.fail, monkeypatch, tmp_path, target=None) == 1
    assert "of no collection in params.yaml: data/zoo/old. " in capsys.readouterr().err
    reached = []
    assert run(reached.append, monkeypatch, tmp_path, "mnist5k") == 0
    assert reached


@pytest.mark.parametrize(("target", "argument"), [("collection", ("mnist5k",)), ("dataset", ("mnist",)), (None, ())])
def test_an_interrupted_stage_ends_as_shells_expect(tmp_path, monkeypatch, capsys, target, argument):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert run(failing_with_interrupt, monkeypatch, tmp_path, *argument, target=target) == 130
    assert "Run the same command again" in capsys.readouterr().err


def failing_with_interrupt(_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("cohort_size:", "cohort_sise:"), "`train.cohort_sise`: unknown key; did you mean `cohort_size`?"),
        (("folds: 3", "folds: 1"), "`search.folds`: Input should be greater than or equal to 2, got 1"),
        (("collections: [mnist5k]", "collections: [mnist]"), "`collections` names `mnist`"),
    ],
)
@pytest.mark.parametrize("target", ["collection", "dataset", None])
def test_every_wrong_parameter_is_told_before_any_work(tmp_path, monkeypatch, capsys, target, change, says):
    """Whatever the stage reads of them: parameters are checked as a whole."""
    text = (ROOT / "params.yaml").read_text()
    assert change[0] in text
    (tmp_path / "params.yaml").write_text(text.replace(*change))
    assert run(pytest.fail, monkeypatch, tmp_path, *(["mnist5k"] if target else []), target=target) == 1
    printed, message = capsys.readouterr()
    assert printed == ""
    assert message.startswith("error: params.yaml is not valid:\n")
    assert says in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml"]


def test_unknown_collection_is_told_before_any_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert run(pytest.fail, monkeypatch, tmp_path, "mnist5") == 1
    printed, message = capsys.readouterr()
    assert printed == ""
    assert "no collection `mnist5`" in message
    assert "did you mean `mnist5k`?" in message


def test_an_imported_collection_is_one_that_stages_work_on(tmp_path, monkeypatch):
    text = (ROOT / "params.yaml").read_text().replace("imported: {}", "imported: {abroad: {dataset: mnist}}")
    (tmp_path / "params.yaml").write_text(text)
    contexts = []
    assert run(contexts.append, monkeypatch, tmp_path, "abroad") == 0
    assert contexts[0].target == "abroad"


def test_a_data_set_needs_no_collection_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    contexts = []
    assert run(contexts.append, monkeypatch, tmp_path, "svhn_cropped", target="dataset") == 0
    assert contexts[0].target == "svhn_cropped"


def test_stage_in_a_wrong_folder_says_so_and_does_nothing(tmp_path, monkeypatch, capsys):
    assert run(pytest.fail, monkeypatch, tmp_path, "mnist5k") == 1
    assert "params.yaml: cannot be read" in capsys.readouterr().err
