"""How fast networks are recorded in MLflow and their record is read: `python benchmarks/tracking.py --help`.

    python benchmarks/tracking.py --store postgresql --networks 120000

In SQLite, or in a PostgreSQL that is started for it: MLflow's client against the bulk path, live (start, nine
checkpoints, end of each cohort) and from shards; then pages as the UI asks for them, by MLflow's client and through
`mlflow server`. First both paths record the same networks, and MLflow must read the same back; a page must hold the
best networks. The shards are synthetic; their weights, which tracking never reads, are left out.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import requests

from _machine import describe, spread
from _stores import Project, empty_stores, mlflow_server
from cnnzoo import config
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import ZooTracker, sync_zoo
from cnnzoo.tracking.location import tracking_uri
from cnnzoo.zoo import recipes
from cnnzoo.zoo.shards import METRICS, NEVER, Origin, Shard, shard_name

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "synthetic"
COHORT_SIZE = 256
CLIENT_NETWORKS = 128
DRAWN = 2048
"""Different networks; more are copies with other numbers, as drawing 120,000 takes longer than recording them."""
LIVE_NETWORKS = 12 * COHORT_SIZE
BEST = "metrics.`test_accuracy` DESC"
QUERIES = {
    "sorted by accuracy": "",
    "with adam and an accuracy above 0.9": "params.optimizer = 'adam' and metrics.test_accuracy > 0.9",
}
"""Pages of 100 runs as the UI asks for them: what they show, and their filter."""


def make_shards(folder: Path, networks: int, first: int = 0) -> list[Shard]:
    """Return shards without weights, of networks that are numbered from `first`."""
    params = config.load(ROOT / "params.yaml")
    population = next(iter(params.populations.values())).model_copy(update={"networks": min(networks, DRAWN)})
    drawn = recipes.draw(params.model_copy(update={"populations": {COLLECTION: population}}), COLLECTION)
    drawn = [replace(drawn[index % len(drawn)], network=first + index) for index in range(networks)]
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


def page(artifacts: Artifacts, count: int = 100, condition: str = "") -> list[object]:
    """Return the best runs, as MLflow's client reads them."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(artifacts))
    experiment = client.get_experiment_by_name(f"zoo/{COLLECTION}")
    return list(client.search_runs([experiment.experiment_id], condition, max_results=count, order_by=[BEST]))


def served_page(address: str, condition: str) -> list[float]:
    """Return the accuracies of the best runs, by the call that the UI makes."""
    ask = {"experiment_name": f"zoo/{COLLECTION}"}
    found = requests.get(f"{address}/ajax-api/2.0/mlflow/experiments/get-by-name", params=ask, timeout=60)
    query = {
        "experiment_ids": [found.json()["experiment"]["experiment_id"]],
        "filter": condition,
        "run_view_type": "ACTIVE_ONLY",
        "max_results": 100,
        "order_by": [BEST],
    }
    answer = requests.post(f"{address}/ajax-api/2.0/mlflow/runs/search", json=query, timeout=600)
    answer.raise_for_status()
    metrics = [{item["key"]: item["value"] for item in run["data"]["metrics"]} for run in answer.json()["runs"]]
    return [values["test_accuracy"] for values in metrics]


def read_back(project: Project) -> dict[str, object]:
    """Return what MLflow's client reads: the latest metrics, parameters and state of up to 1,000 runs."""
    with project.used() as artifacts:
        runs = page(artifacts, 1000)
    return {run.info.run_name: (run.data.metrics, run.data.params, run.info.status) for run in runs}


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of the processor in this process: on a busy machine the second says more."""

    clock: float
    processor: float


def measure(work: Callable[[], object]) -> Took:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - clock, time.process_time() - processor)


def report(what: str, networks: int, rounds: list[Took], base: float | None = None) -> float:
    """Print the rates, networks/s, and return the median of those by the clock."""
    rates = [networks / took.clock for took in rounds]
    ratio = "" if base is None else f", {np.median(rates) / base:.0f} x the client"
    by_processor = spread([networks / took.processor for took in rounds])
    print(
        f"{what}: {spread(rates)} networks/s, by processor time {by_processor}, n = {len(rates)}, {networks:,} networks"
        f"{ratio}",
        flush=True,
    )
    return float(np.median(rates))


def log_rounds(make: Callable[[str], Project], name: str, shards: list[Shard], rounds: int) -> list[Took]:
    """Log cohorts into empty stores; returns what each round took. Training must never wait."""
    longest: list[float] = []
    took = []
    for number in range(rounds):
        project = make(f"{name} {number}")
        with project.used() as artifacts:
            took.append(measure(lambda: longest.append(log_live(artifacts, shards))))
        assert len(read_back(project)) == min(1000, count(shards)), "not all networks are on record"
    print(f"  the longest that training waited for a call: {1e3 * max(longest):.1f} ms")
    return took


def compare_with_client(make: Callable[[str], Project], root: Path) -> float:
    """Check that both paths leave the same record, live and from shards; returns the client's live rate."""
    few = make_shards(root / "few", CLIENT_NETWORKS)
    client, bulk = make("client"), make("bulk")
    with through_client(), client.used() as artifacts:
        live = report("client, live", CLIENT_NETWORKS, log_rounds(make, "client live", few, 1))
        report("client, from shards", CLIENT_NETWORKS, [measure(lambda: sync(artifacts, few))])
    with bulk.used() as artifacts:
        log_live(artifacts, few)
        logged = read_back(bulk)
        sync(artifacts, few)
    assert read_back(client) == read_back(bulk) == logged, "the two paths differ"
    return live


def measure_pages(project: Project, networks: int, rounds: int) -> None:
    """Print how long pages take, by MLflow's client and through a server."""
    with project.used() as artifacts:
        for what, condition in QUERIES.items():
            best = [run.data.metrics["test_accuracy"] for run in page(artifacts, 100, condition)]
            assert len(best) == 100
            assert best == sorted(best, reverse=True)
            times = [measure(lambda: page(artifacts, 100, condition)).clock for _ in range(rounds)]  # noqa: B023
            print(f"page {what}, {networks:,} runs: {spread(times, '.2f')} s, n = {rounds}", flush=True)
    with mlflow_server(project) as address:
        for what, condition in QUERIES.items():
            with project.used() as artifacts:
                best = [run.data.metrics["test_accuracy"] for run in page(artifacts, 100, condition)]
            assert served_page(address, condition) == best, "the server shows other runs"
            times = [measure(lambda: served_page(address, condition)).clock for _ in range(rounds)]  # noqa: B023
            print(f"served page {what}, {networks:,} runs: {spread(times, '.2f')} s, n = {rounds}", flush=True)


def count(shards: list[Shard]) -> int:
    return sum(len(shard.recipes) for shard in shards)


def measure_size(project: Project, root: Path, shards: list[Shard], there: int, rounds: int) -> None:
    """Record networks from their shards, into a store that holds the first of them; then read and log more."""
    networks = count(shards)
    with project.used() as artifacts:
        took = measure(lambda: sync(artifacts, shards))
        report(f"bulk, from shards, from {there:,} to {networks:,} networks", networks - there, [took])
        report(f"bulk, nothing to do, {networks:,}", networks, [measure(lambda: sync(artifacts, shards))])
        print(f"  {project.size() / networks / 1e3:.1f} kB a network")
        measure_pages(project, networks, rounds)
        more = make_shards(root / f"after {networks}", LIVE_NETWORKS, first=10 * networks)
        took = measure(lambda: log_live(artifacts, more))
        report(f"bulk, live, into a store of {networks:,}", LIVE_NETWORKS, [took])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    sizes = "sizes of one store that grows (4,096 or more: each page must be full)"
    parser.add_argument("--networks", type=int, nargs="+", default=[30_000], help=sizes)
    parser.add_argument("--rounds", type=int, default=5, help="of live logging, and of each page")
    parser.add_argument("--no-client", action="store_true", help="leave out MLflow's client, which takes minutes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        with empty_stores(arguments.store, root, COLLECTION) as make:
            print(describe(["mlflow", "sqlalchemy"]), flush=True)
            client = None if arguments.no_client else compare_with_client(make, root)
            live = make_shards(root / "live", LIVE_NETWORKS)
            report("bulk, live, empty stores", LIVE_NETWORKS, log_rounds(make, "live", live, arguments.rounds), client)
            shards, project = make_shards(root / "shards", max(arguments.networks)), make("all")
            there = 0
            for networks in sorted(arguments.networks):
                some = shards[: -(-networks // COHORT_SIZE)]
                measure_size(project, root, some, there, arguments.rounds)
                there = count(some)


if __name__ == "__main__":
    main()
