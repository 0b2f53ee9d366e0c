"""Versions on an S3 server: push, pull in parts, growth, `dvc get` and `dvc import`, experiments in temporary copies.

Skipped unless `pip install -e '.[remote]'` has brought DVC's S3 remote and moto's server. The outputs are synthetic:
`dvc commit` enters them in dvc.lock as if the stages had made them.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from copies import copy_environment, copy_project

moto = pytest.importorskip("moto.server", reason="needs the extra `remote`: moto's server")
pytest.importorskip("dvc_s3", reason="needs the extra `remote`: dvc-s3")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COPIED = ("src", "dvc.yaml", "params.yaml", ".dvc/config", ".dvcignore", ".gitignore")
BUCKET = "zoo"
ZOO = {"data/zoo/mnist5k/weights.npy", "data/zoo/mnist5k/split.csv"}
MODELS = {"models/predictors/mnist5k/linear/hyper/metrics.json"}
SHARDS = {f"data/checkpoints/mnist5k/{name}.safetensors" for name in "ab"}
OTHERS = {
    *("data/images/mnist5k.npz", "data/recipes/mnist5k.csv", "data/features/mnist5k/hyper.parquet"),
    *("models/forecast/mnist5k/forecast.csv", "models/evaluation/scores.csv", "models/report/index.html"),
    *("models/report/metrics.json", "models/report/figures/a.png"),
    *(f"models/report/{name}.csv" for name in ("predicted", "accuracies", "learning_curves", "leaderboard")),
    *(f"models/report/{name}.csv" for name in ("importances", "forecast", "stopping")),
}
OUTPUTS = ZOO | MODELS | SHARDS | OTHERS


class Project:
    """A folder with its own git repository, driven by command lines."""

    def __init__(self, root: Path, server: str) -> None:
        self.root = root
        credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
        identity = {
            f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        self.environment = copy_environment(root) | credentials | identity | {"AWS_ENDPOINT_URL": server}
        for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
            self.environment[f"DVC_{name}_DIR"] = str(root.parent / f"dvc-{name.lower()}")

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def save(self) -> None:
        """Enter all files in dvc.lock and commit it."""
        self.run("dvc", "commit", "--force", "--quiet")
        self.run("git", "add", "-A")
        self.run("git", "commit", "--quiet", "-m", "state")

    def files(self) -> set[str]:
        """Return the outputs that are there."""
        found = (path for folder in ("data", "models") for path in (self.root / folder).rglob("*"))
        return {
            path.relative_to(self.root).as_posix() for path in found if path.is_file() and path.name != ".gitignore"
        }

    def clone(self, root: Path) -> "Project":
        """Return a fresh clone, without any data."""
        self.run("git", "clone", "--quiet", str(self.root), str(root))
        return Project(root, self.environment["AWS_ENDPOINT_URL"])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = moto.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="module")
def bucket(server: str) -> Any:
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    store = boto3.resource("s3", endpoint_url=server, **keys).Bucket(BUCKET)
    store.create()
    return store


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, server: str, bucket: Any) -> Project:
    """A project whose outputs are pushed; tests that change it leave it pushed."""
    root = tmp_path_factory.mktemp("versions") / "project"
    copy_project(root, COPIED)
    for name in OUTPUTS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    project = Project(root, server)
    project.run("git", "init", "--quiet")
    project.run("dvc", "remote", "add", "-d", "store", f"s3://{BUCKET}/store")
    project.run("dvc", "remote", "modify", "store", "endpointurl", server)
    project.save()
    project.run("dvc", "push", "--quiet")
    return project


def objects(bucket: Any) -> set[str]:
    """Return the content of every object that is no list of a folder."""
    return {one.get()["Body"].read().decode() for one in bucket.objects.all() if not one.key.endswith(".dir")}


def test_a_clone_pulls_what_it_asks_for_and_in_the_end_all(pushed: Project, bucket: Any, tmp_path: Path) -> None:
    assert objects(bucket) >= OUTPUTS
    clone = pushed.clone(tmp_path / "clone")
    assert clone.files() == set()
    clone.run("dvc", "pull", "--quiet", "assemble@mnist5k")
    assert clone.files() == ZOO
    clone.run("dvc", "pull", "--quiet", "search@mnist5k")
    assert clone.files() == ZOO | MODELS
    clone.run("dvc", "pull", "--quiet")
    assert clone.files() == OUTPUTS
    assert all((clone.root / name).read_text() == name for name in OUTPUTS)


def test_a_zoo_that_has_grown_uploads_its_new_shards_alone(pushed: Project, bucket: Any) -> None:
    before = {one.key: one.last_modified for one in bucket.objects.all()}
    (pushed.root / "data/checkpoints/mnist5k/c.safetensors").write_text("the third cohort")
    pushed.save()
    pushed.run("dvc", "push", "--quiet")
    after = {one.key: one.last_modified for one in bucket.objects.all()}
    assert {key: after[key] for key in before} == before
    new = sorted(after.keys() - before.keys(), key=lambda key: key.endswith(".dir"))
    assert len(new) == 2  # the shard, and the list of the folder
    assert bucket.Object(new[0]).get()["Body"].read() == b"the third cohort"
    (pushed.root / "data/checkpoints/mnist5k/c.safetensors").unlink()
    pushed.save()


def test_another_project_gets_a_collection_and_imports_it(pushed: Project, tmp_path: Path, server: str) -> None:
    other = Project(tmp_path / "other", server)
    other.root.mkdir()
    other.run("git", "init", "--quiet")
    other.run("dvc", "init", "--quiet")
    other.run("dvc", "get", "--quiet", str(pushed.root), "data/zoo/mnist5k", "-o", "got")
    (other.root / "data/zoo").mkdir(parents=True)
    other.run("dvc", "import", "--quiet", str(pushed.root), "data/zoo/mnist5k", "-o", "data/zoo/mnist5k")
    for folder in ("got", "data/zoo/mnist5k"):
        found = {path.name: path.read_text() for path in (other.root / folder).iterdir()}
        assert found == {Path(name).name: name for name in ZOO}
    assert (other.root / "data/zoo/mnist5k.dvc").is_file()


@pytest.mark.parametrize("how", ["--temp", "--queue"])
def test_an_experiment_runs_in_a_temporary_copy_and_leaves_the_project_as_it_is(how: str, pushed: Project) -> None:
    before = {
        name: (pushed.root / name).read_bytes() for name in ("params.yaml", "dvc.lock", "data/recipes/mnist5k.csv")
    }
    name = how.strip("-")
    change = ("-S", f"seed={len(name)}", "--name", name, "recipes@mnist5k")
    pushed.run("dvc", "exp", "run", "--quiet", how, *change)
    if how == "--queue":
        pushed.run("dvc", "exp", "run", "--run-all", "--quiet")
    assert name in pushed.run("dvc", "exp", "list", "--name-only").split()
    lock = pushed.run("git", "show", f"refs/exps/{experiment(pushed, name)}:dvc.lock")
    assert f"seed: {len(name)}" in lock
    assert {file: (pushed.root / file).read_bytes() for file in before} == before


def experiment(project: Project, name: str) -> str:
    """Return an experiment's place below refs/exps."""
    references = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return next(found.removeprefix("refs/exps/") for found in references if found.endswith(f"/{name}"))
