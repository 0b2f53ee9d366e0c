"""What Ray costs: `python benchmarks/cluster.py [--rounds 3] [--seconds 60] [--queued 10000]`; needs the extra `ray`.

- Overhead: two cohorts, each of about so many seconds of a core, trained by this process on two threads and by two
  workers of a Ray cluster, in turn. The shards must be the same. The start of Ray and of its workers counts apart: it
  comes once for a zoo. Processor time, of this process and of all that Ray started, says on a busy machine what the
  clock cannot.
- The driver's memory: so many synthetic cohorts are queued, each tells progress and sends a shard of 200 kB; every
  shard must arrive once.
"""

import argparse
import gc
import importlib.util
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from _machine import describe, spread
from cnnzoo import config, images
from cnnzoo.cluster.placement import WHOLE
from cnnzoo.cluster.pool import Pool
from cnnzoo.cluster.ray_backend import Call, RayBackend, connected
from cnnzoo.cluster.training import RayExecutor
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.training.executor import Executor, LocalExecutor
from cnnzoo.training.train import train_collection
from cnnzoo.zoo import recipes

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "mnist5k"
WORKERS = 2
CORE_RATE = 90_000
"""Images/s of a core, about: decides how long the cohorts are."""
NETWORKS = 16
SHARD_BYTES = 200_000


@dataclass(frozen=True)
class Moment:
    """Seconds on the clock, and of processors."""

    clock_s: float
    processor_s: float

    @classmethod
    def now(cls) -> "Moment":
        """Look at the clock and at this process with all below it."""
        spent = 0.0
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent += times.user + times.system
        return cls(time.perf_counter(), spent)

    def since(self, other: "Moment") -> "Moment":
        """Return what has passed."""
        return Moment(self.clock_s - other.clock_s, self.processor_s - other.processor_s)


class Clock:
    """A listener that notes when training begins and ends."""

    def __init__(self) -> None:
        self.begun: Moment | None = None
        self.ended = Moment(0.0, 0.0)

    def start(self, *_: Any) -> None:
        """Note the first cohort."""
        self.begun = self.begun or Moment.now()

    def checkpoint(self, *_: Any) -> None:
        """Nothing."""

    def finish(self, *_: Any) -> None:
        """Note the last cohort."""
        self.ended = Moment.now()


def parameters(seconds: float) -> config.Params:
    """Return those of two equal cohorts of about so many seconds of a core each."""
    values = config.load(ROOT / "params.yaml").model_dump()
    values["populations"] = {COLLECTION: {"dataset": COLLECTION, "networks": 2 * NETWORKS, "minibatch": 64}}
    one = {name: {"choice": [value]} for name, value in {"activation": "relu", "optimizer": "adam"}.items()}
    epochs = max(1, round(seconds * CORE_RATE / (NETWORKS * 3968)))
    values["recipes"] |= one | {"train_fraction": {"choice": [1.0]}, "epochs": epochs}
    values["train"] = {"engine": "native", "cohort_size": NETWORKS}
    values["runtime"] |= {"threads": WORKERS, "device": "cpu"}
    return config.validate(values, "the benchmark")


def train(executor: Executor, params: config.Params, source: Path) -> tuple[Moment, float, dict[str, bytes]]:
    """Return the time from the first start of a cohort to the last end, the seconds of all, and the shards."""
    with tempfile.TemporaryDirectory() as folder:
        artifacts, clock = Artifacts(Path(folder)), Clock()
        artifacts.images(COLLECTION).parent.mkdir(parents=True)
        artifacts.images(COLLECTION).write_bytes(source.read_bytes())
        begun = time.perf_counter()
        drawn = recipes.draw(params, COLLECTION)
        shards = train_collection(artifacts, params, COLLECTION, drawn, clock, executor)
        whole = time.perf_counter() - begun
        assert clock.begun is not None
        return clock.ended.since(clock.begun), whole, {shard.name: shard.path.read_bytes() for shard in shards}


def overhead(rounds: int, seconds: float) -> None:
    """Train in pairs and print the ratio of their times."""
    params = parameters(seconds)
    with tempfile.TemporaryDirectory() as folder:
        source = Artifacts(Path(folder)).images(COLLECTION)
        images.prepare(COLLECTION, [], Path(folder)).save(source)
        clock, processor, starts, times = [], [], [], []
        for number in range(rounds):
            pair = {"local": LocalExecutor(), "ray": RayExecutor(WHOLE)}
            results = {name: train(pair[name], params, source) for name in sorted(pair, reverse=number % 2 == 0)}
            assert results["ray"][2] == results["local"][2], "the shards differ"
            ray, local = results["ray"][0], results["local"][0]
            clock.append(ray.clock_s / local.clock_s - 1)
            processor.append(ray.processor_s / local.processor_s - 1)
            starts.append(results["ray"][1] - ray.clock_s)
            times.append(local.processor_s)
    print(f"- two cohorts in this process: {spread(times, '.1f')} s of processors; n = {rounds} pairs")
    print(f"- two workers: {spread(processor, '+.1%')} of processors, {spread(clock, '+.1%')} on the clock")
    print(f"- start and end of Ray and its workers: {spread(starts, '.1f')} s")


def synthetic(number: int) -> Iterator[list[Any]]:
    """Tell progress and send a shard, as a cohort does."""
    yield [(number, None)]
    yield [(number, bytes(SHARD_BYTES))]


class Counting:
    """Counts the shards; looks at the memory of this process now and then."""

    def __init__(self, queued: int) -> None:
        self.arrived: Counter[int] = Counter()
        self.every = max(1, queued // 10)

    def call(self, task: int) -> Call:
        """Return the task's number."""
        return Call((task,))

    def hear(self, task: int, event: Any) -> bool:
        """Count a shard."""
        number, content = event
        if content is not None:
            assert (number, len(content)) == (task, SHARD_BYTES)
            self.arrived[number] += 1
            if sum(self.arrived.values()) % self.every == 0:
                gc.collect()
                memory = psutil.Process().memory_info()
                mine_mb = (memory.rss - memory.shared) / 1e6
                print(f"- {sum(self.arrived.values()):,} shards: {mine_mb:.0f} MB of the driver's own", flush=True)
        return False

    def lost(self, task: int) -> None:
        """Nothing."""

    def name(self, task: int) -> str:
        """Return its number."""
        return str(task)


def memory(queued: int, say: Callable[[str], None] = print) -> None:
    """Print the driver's memory while so many synthetic cohorts go through two workers."""
    counting = Counting(queued)
    begun = time.perf_counter()
    with connected(parameters(1).runtime) as cluster:
        for _ in Pool(RayBackend(cluster, synthetic), counting, say).run(range(queued)):
            pass
    seconds = time.perf_counter() - begun
    assert counting.arrived == Counter(range(queued)), "a shard is missing or came twice"
    print(f"- {queued:,} synthetic cohorts in {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--queued", type=int, default=10_000)
    arguments = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        print("not measured: Ray is not installed (`pip install -c constraints.txt -e '.[ray]'`)")
        return
    print(describe(["ray", "torch", "pytorch-lightning"]))
    if arguments.queued:
        memory(arguments.queued)
    if arguments.rounds:
        overhead(arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
