"""Where the files of a project lie: the layout that README.md, dvc.yaml and whoever pulls a zoo rely on."""

from pathlib import Path

import pytest

from cnnzoo.core.artifacts import Artifacts, slug

SET = "wstats-layers:0,3-qts:0,50,100+hyper"
PATHS = [
    (Artifacts.params.fget, (), "params.yaml"),
    (Artifacts.images, ("mnist",), "data/images/mnist.npz"),
    (Artifacts.downloads.fget, (), "data/downloads"),
    (Artifacts.recipes, ("zoo1",), "data/recipes/zoo1.csv"),
    (Artifacts.checkpoints, ("zoo1",), "data/checkpoints/zoo1"),
    (Artifacts.unfinished, ("zoo1",), "data/unfinished/zoo1"),
    (Artifacts.parts, ("zoo1",), "data/unfinished/zoo1/parts"),
    (Artifacts.studies, ("zoo1",), "data/unfinished/zoo1/studies"),
    (Artifacts.zoo, ("zoo1",), "data/zoo/zoo1"),
    (Artifacts.features, ("zoo1",), "data/features/zoo1"),
    (Artifacts.models, ("zoo1",), "models/predictors/zoo1"),
    (
        Artifacts.predictor,
        ("zoo1", "linear", SET),
        "models/predictors/zoo1/linear/wstats-layers_0.3-qts_0.50.100+hyper",
    ),
    (Artifacts.forecast, ("zoo1",), "models/forecast/zoo1"),
    (Artifacts.evaluation.fget, (), "models/evaluation"),
    (Artifacts.report.fget, (), "models/report"),
    (Artifacts.mlruns.fget, (), "mlruns"),
]


@pytest.mark.parametrize(("path", "arguments", "expected"), PATHS, ids=[expected for *_, expected in PATHS])
def test_every_file_lies_where_the_layout_says(path, arguments, expected):
    assert path(Artifacts(Path("/project")), *arguments) == Path("/project") / expected
    assert path(Artifacts(), *arguments) == Path(expected)


def test_every_path_has_a_row():
    public = {name for name in vars(Artifacts) if not name.startswith("_") and name != "root"}
    assert len(public) == len(PATHS)


def test_asking_for_a_path_makes_nothing(tmp_path):
    for path, arguments, _ in PATHS:
        path(Artifacts(tmp_path), *arguments)
    assert list(tmp_path.iterdir()) == []


def test_feature_sets_have_folders_of_their_own():
    """A folder's name tells the set again, so no two sets share one."""
    names = ["wstats-layers:0,3-qts:0,25", "wstats-layers:03-qts:0,25", "wnorm-layers:0,1-l2", "wnorm-layers:0,-1-l2"]
    folders = [slug(name) for name in names]
    assert [folder.replace("_", ":").replace(".", ",") for folder in folders] == names
    assert not any(set(folder) & set(":,/\\") for folder in folders)
