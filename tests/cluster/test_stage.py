"""The stage `train` with workers in this process: what DVC and MLflow get is what one machine gives them."""

import pytest
from inline import InlineCluster
from mlflow.tracking import MlflowClient

from cnnzoo.tracking.location import tracking_uri
from cnnzoo.zoo.recipes import read
from cnnzoo.zoo.shards import METRICS
from small_project import ALPHA, NETWORKS, SmallProject


@pytest.mark.slow
def test_mlflow_has_each_network_and_each_checkpoint_once_though_workers_die(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    cluster = InlineCluster(losses=[3, 2, None, 1]).install(monkeypatch)
    project = SmallProject.make(tmp_path / "project", {"runtime.executor": "ray", "runtime.resume_interval_s": 0})
    project.run("recipes", ALPHA)
    project.run("train", ALPHA)
    assert len(cluster.started) >= 3 + 2
    client = MlflowClient(tracking_uri(project.artifacts))
    experiment = client.get_experiment_by_name(f"zoo/{ALPHA}")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    epochs = list(read(project.artifacts.recipes(ALPHA))[0].checkpoints)
    assert sorted(run.data.tags["network"] for run in runs) == [f"{ALPHA}/{network:06d}" for network in range(NETWORKS)]
    for run in runs:
        assert (run.info.status, run.data.tags["node"]) == ("FINISHED", "node7")
        for name in METRICS:
            assert [point.step for point in client.get_metric_history(run.info.run_id, name)] == epochs
