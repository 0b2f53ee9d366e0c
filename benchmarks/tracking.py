"""How many networks a second are recorded in MLflow: `python benchmarks/tracking.py [--networks 30000]`.

Compares, in one run, MLflow's client with the bulk path on SQLite: live (start, nine checkpoints, end of each cohort)
and rebuilding the record from shards. First both paths log the same networks and MLflow must read the same back.
The shards are synthetic; their weights, which tracking never reads, are left out.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np

from cnnzoo import config
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import ZooTracker, sync_zoo
from cnnzoo.tracking.location import prepare_environment, tracking_uri
from cnnzoo.tracking.store import open_zoo
from cnnzoo.zoo import recipes
from cnnzoo.zoo.shards import METRICS, NEVER, Origin, Shard, shard_name

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "synthetic"
COHORT_SIZE = 256
CLIENT_NETWORKS = 128
SORT = ["metrics.test_accuracy DESC"]
ROUNDS = 5
QUERIES = {
    "the 100 best": "",
    "the 100 best with adam and an accuracy above 0.9": "params.optimizer = 'adam' and metrics.test_accuracy > 0.9",
}
"""Pages as the UI asks for them: what they show, and their filter."""


def make_shards(folder: Path, networks: int) -> list[Shard]:
    """Return shards without weights."""
    params = config.load(ROOT / "params.yaml")
    population = next(iter(params.populations.values())).model_copy(update={"networks": networks})
    drawn = recipes.draw(params.model_copy(update={"populations": {COLLECTION: population}}), COLLECTION)
    origin = Origin(COLLECTION, minibatch=512, images="0" * 64, engine="synthetic", numerics="1")
    folder.mkdir(parents=True)
    epochs = len(recipes.checkpoint_epochs(drawn[0].epochs, drawn[0].epochs_between_checkpoints))
    rng = np.random.default_rng(0)
    shards = []
    for start in range(0, networks, COHORT_SIZE):
        cohort = tuple(drawn[start : start + COHORT_SIZE])
        path = folder / f"{shard_name(origin, cohort)}.safetensors"
        path.touch()
        metrics = {name: rng.random((len(cohort), epochs)) for name in METRICS}
        shards.append(Shard(path, origin, cohort, metrics, np.full(len(cohort), NEVER), digest=""))
    return shards


def log_live(artifacts: Artifacts, shards: list[Shard]) -> float:
    """Log cohorts as training does; returns the longest time that any call took, in seconds."""
    longest = 0.0

    def timed(call: Callable[[], None]) -> None:
        nonlocal longest
        start = time.perf_counter()
        call()
        longest = max(longest, time.perf_counter() - start)

    with patch("cnnzoo.tracking.zoo.CLOSE_TIMEOUT_S", 600), ZooTracker(artifacts, COLLECTION) as tracker:
        for shard in shards:
            timed(lambda: tracker.start(shard.name, shard.origin, shard.recipes))  # noqa: B023 - called at once
            for index, epoch in enumerate(shard.epochs):
                values = {name: array[:, index] for name, array in shard.metrics.items()}
                timed(lambda: tracker.checkpoint(shard.name, epoch, values))  # noqa: B023
            timed(lambda: tracker.finish(shard))  # noqa: B023
    return longest


def through_client() -> "patch[frozenset[str]]":
    """Make every store go through MLflow's client, as with an unknown schema."""
    return patch("cnnzoo.tracking.bulk.KNOWN_REVISIONS", frozenset())


def sync(artifacts: Artifacts, shards: list[Shard]) -> None:
    done = sync_zoo(artifacts, COLLECTION, shards, [recipe for shard in shards for recipe in shard.recipes])
    assert done, "the record could not be written"


def fresh(folder: Path) -> Artifacts:
    """Return a project with an empty, ready store."""
    artifacts = Artifacts(folder)
    artifacts.mlruns.mkdir(parents=True)
    open_zoo(artifacts, COLLECTION).close()
    return artifacts


def read_back(artifacts: Artifacts) -> dict[str, object]:
    """Return what MLflow's client reads: the latest metrics, parameters and state of each run."""
    return {run.info.run_name: (run.data.metrics, run.data.params, run.info.status) for run in search(artifacts, 1000)}


def search(artifacts: Artifacts, count: int, condition: str = "") -> list[object]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(artifacts))
    experiment = client.get_experiment_by_name(f"zoo/{COLLECTION}")
    return list(client.search_runs([experiment.experiment_id], condition, max_results=count, order_by=SORT))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(what: str, networks: int, took_s: float, base: float | None = None) -> float:
    rate = networks / took_s
    ratio = "" if base is None else f"   {rate / base:6.1f} x the client"
    print(f"{what:44s} {networks:6d} networks {took_s:7.2f} s {rate:8.0f} networks/s{ratio}", flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=30_000)
    networks = parser.parse_args().networks
    prepare_environment()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, MLflow {version('mlflow')}, SQLAlchemy {version('sqlalchemy')}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        shards = make_shards(root / "shards", networks)
        few = make_shards(root / "few", CLIENT_NETWORKS)
        stores = {name: fresh(root / name) for name in ("client", "client-live", "bulk", "bulk-live", "check")}

        with through_client():
            client_s = seconds(lambda: sync(stores["client"], few))
        sync(stores["check"], few)
        assert read_back(stores["client"]) == read_back(stores["check"]), "the two paths differ"

        client = report("client, rebuild", CLIENT_NETWORKS, client_s)
        with through_client():
            client_live = report("client, live", CLIENT_NETWORKS, seconds(lambda: log_live(stores["client-live"], few)))
        live = shards[: max(1, len(shards) // 10)]
        longest: list[float] = []
        took_s = seconds(lambda: longest.append(log_live(stores["bulk-live"], live)))
        report("bulk, live", sum(len(shard.recipes) for shard in live), took_s, client_live)
        print(f"  the longest that training waited for a call: {1e3 * longest[0]:.2f} ms")
        assert len(read_back(stores["bulk-live"])) == min(1000, sum(len(shard.recipes) for shard in live))

        report("bulk, rebuild from shards", networks, seconds(lambda: sync(stores["bulk"], shards)), client)
        report("bulk, nothing to do", networks, seconds(lambda: sync(stores["bulk"], shards)))
        size = (stores["bulk"].mlruns / "mlflow.db").stat().st_size
        print(f"  {size / networks / 1e3:.1f} kB a network")
        for what, condition in QUERIES.items():
            times = [seconds(lambda: search(stores["bulk"], 100, condition)) for _ in range(ROUNDS)]  # noqa: B023
            print(f"  {what} of {networks}: {median(times):.2f} ({min(times):.2f} to {max(times):.2f}) s, n = {ROUNDS}")


if __name__ == "__main__":
    main()
