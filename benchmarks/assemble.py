"""How much memory and time assembling takes: `python benchmarks/assemble.py [--networks 30000]`.

Makes synthetic shards of a full published collection (30,000 networks x 9 checkpoints = 270,000 rows = 5.4 GB), grouped
as real cohorts are, so that the networks of a shard lie scattered over the matrix. Assembles them, compares random rows
with what the shards hold, and runs `check`. Each phase is a process of its own, and its peak resident memory is what
the kernel counted for that process. This process imports nothing heavy, because a child inherits its parent's peak.

Needs about 11 GB of disk for the default size, in a temporary folder that is removed at the end.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "synthetic"
COHORT_SIZE = 256
SAMPLED_NETWORKS = 200
PEAK_LIMIT_GB = 1.0


def make_shards(folder: Path, networks: int) -> None:
    """Write the shards: random weights, shared by all networks but for a stamp of network and epoch."""
    import numpy as np

    from cnnzoo.config import load
    from cnnzoo.network.layout import layout_of
    from cnnzoo.zoo import recipes as zoo_recipes
    from cnnzoo.zoo.shards import METRICS, NEVER, Origin, write_shard

    params = load(ROOT / "params.yaml")
    population = next(iter(params.populations.values())).model_copy(update={"networks": networks})
    params = params.model_copy(update={"populations": {COLLECTION: population}})
    recipes = zoo_recipes.draw(params, COLLECTION)
    zoo_recipes.write(folder / "recipes.csv", recipes)
    origin = Origin(COLLECTION, minibatch=512, images="0" * 64, engine="synthetic", numerics="1")
    cohorts: dict[tuple[str, str, float], list[zoo_recipes.Recipe]] = {}
    for recipe in recipes:
        cohorts.setdefault((recipe.optimizer, recipe.activation, recipe.train_fraction), []).append(recipe)
    epochs = zoo_recipes.checkpoint_epochs(recipes[0].epochs, recipes[0].epochs_between_checkpoints)
    shape = (COHORT_SIZE, len(epochs), layout_of(recipes[0].architecture).size)
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for cohort in cohorts.values():
        for start in range(0, len(cohort), COHORT_SIZE):
            members = cohort[start : start + COHORT_SIZE]
            weights = noise[: len(members)]
            weights[:, :, 0] = np.array([recipe.network for recipe in members])[:, None]
            weights[:, :, 1] = epochs
            metrics = {name: np.full(weights.shape[:2], 0.1) + weights[:, :, 1] / 1000 for name in METRICS}
            write_shard(folder / "shards", origin, members, weights, metrics, np.full(len(members), NEVER))


def assemble(folder: Path, _: int) -> None:
    """Assemble the collection: the phase that the benchmark is about."""
    from cnnzoo import zoo
    from cnnzoo.zoo import recipes
    from cnnzoo.zoo.shards import read_shards

    wanted = recipes.read(folder / "recipes.csv")
    zoo.assemble(read_shards(folder / "shards"), wanted, COLLECTION, folder / "zoo", seed=0)


def compare(folder: Path, _: int) -> None:
    """Compare random networks of the collection with their shards; a difference ends the benchmark."""
    import numpy as np

    from cnnzoo.zoo import Collection
    from cnnzoo.zoo.shards import read_shards

    zoo = Collection.open(folder / "zoo")
    rng = np.random.default_rng(1)
    first = {name: row for row, name in reversed(list(enumerate(zoo.metrics["modeldir"])))}
    shards = read_shards(folder / "shards")
    for shard in rng.choice(np.array(shards, dtype=object), size=min(8, len(shards)), replace=False):
        weights = shard.weights()
        for index in rng.integers(0, len(shard.recipes), SAMPLED_NETWORKS // 8):
            start = first[f"{COLLECTION}/{shard.recipes[index].network:06d}"]
            for row in range(start, start + len(shard.epochs)):
                position = shard.epochs.index(zoo.metrics["step"].iloc[row])
                if not np.array_equal(zoo.weights[row], weights[index, position]):
                    raise SystemExit(f"row {row} differs from {shard.path.name}")


def check(folder: Path, _: int) -> None:
    """Check the whole collection."""
    from cnnzoo.zoo import check

    if problems := check(folder / "zoo"):
        raise SystemExit("\n".join(problems))


PHASES: dict[str, Callable[[Path, int], None]] = {
    "make_shards": make_shards,
    "assemble": assemble,
    "compare": compare,
    "check": check,
}


def run_phase(phase: str, folder: Path, networks: int) -> tuple[float, float]:
    """Run one phase as a process; return its seconds and its peak resident memory in GB."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--phase", phase, "--folder", str(folder), "--networks", str(networks)]
    _, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
    if status:
        raise SystemExit(f"phase {phase} failed")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return time.perf_counter() - start, usage.ru_maxrss * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=30_000)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (default: the system's)")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        PHASES[arguments.phase](arguments.folder, arguments.networks)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        results = {phase: run_phase(phase, folder, arguments.networks) for phase in PHASES}
        matrix_bytes = (folder / "zoo" / "weights.npy").stat().st_size
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pandas", "safetensors"))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"Python {platform.python_version()}, {packages}")
    print(f"{arguments.networks} networks, weights.npy {matrix_bytes / 1e9:.2f} GB; compared rows: equal; check: sound")
    for phase in ("assemble", "check"):
        seconds, peak_gb = results[phase]
        print(f"{phase:9} {seconds:6.1f} s  {matrix_bytes / 1e6 / seconds:6.0f} MB/s  peak {peak_gb:.2f} GB resident")
    for phase in ("assemble", "check"):
        if results[phase][1] > PEAK_LIMIT_GB:
            raise SystemExit(f"{phase}: the peak exceeds {PEAK_LIMIT_GB} GB")


if __name__ == "__main__":
    main()
