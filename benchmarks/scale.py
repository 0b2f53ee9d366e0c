"""How much time and memory a zoo of any size takes: `python benchmarks/scale.py [--networks 30000 60000 120000]`.

Makes synthetic shards (9 checkpoints of each network), grouped as real cohorts are, so that the networks of a shard lie
scattered over the matrix. Then, each step a process of its own, whose peak resident memory is what the kernel counted:
assemble, compare random rows with what the shards hold, check, features, DVC add and push, the record in MLflow. This
process imports nothing heavy, because a child inherits its parent's peak.

A network of the published family takes 179 kB in its shard and in the matrix each, and DVC keeps two more copies of the
matrix: 30,000 need 22 GB of disk, in a temporary folder that is removed at the end. `--units 8` has 1,338 parameters in
place of 4,970, for more networks on less disk.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "synthetic"
COHORT_SIZE = 256
SAMPLED_NETWORKS = 200
FEATURES = "wstats-layers:0,1,2,3-qts:0,25,50,75,100"
GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]


def make_shards(root: Path, networks: int, units: int) -> None:
    """Write recipes and shards: random weights, shared by all networks but for a stamp of network and epoch."""
    import numpy as np

    from cnnzoo.config import load
    from cnnzoo.core.artifacts import Artifacts
    from cnnzoo.zoo import recipes as zoo_recipes
    from cnnzoo.zoo.shards import METRICS, NEVER, Origin, write_shard

    shutil.copy(ROOT / "params.yaml", root)
    artifacts, params = Artifacts(root), load(root / "params.yaml")
    some = next(iter(params.populations.values()))
    population = some.model_copy(update={"networks": networks, "num_units": units})
    recipes = zoo_recipes.draw(params.model_copy(update={"populations": {COLLECTION: population}}), COLLECTION)
    zoo_recipes.write(artifacts.recipes(COLLECTION), recipes)
    origin = Origin(COLLECTION, minibatch=512, images="0" * 64, engine="synthetic", numerics="1")
    cohorts: dict[tuple[str, str, float], list[zoo_recipes.Recipe]] = {}
    for recipe in recipes:
        cohorts.setdefault((recipe.optimizer, recipe.activation, recipe.train_fraction), []).append(recipe)
    epochs = recipes[0].checkpoints
    shape = (COHORT_SIZE, len(epochs), recipes[0].layout.size)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(shape, dtype=np.float32)
    for cohort in cohorts.values():
        for start in range(0, len(cohort), COHORT_SIZE):
            members = cohort[start : start + COHORT_SIZE]
            weights = noise[: len(members)]
            weights[:, :, 0] = np.array([recipe.network for recipe in members])[:, None]
            weights[:, :, 1] = epochs
            metrics = {name: rng.random(weights.shape[:2]) for name in METRICS}
            write_shard(
                artifacts.checkpoints(COLLECTION), origin, members, weights, metrics, np.full(len(members), NEVER)
            )


def assemble(root: Path) -> None:
    """Assemble the collection."""
    from cnnzoo import zoo
    from cnnzoo.core.artifacts import Artifacts
    from cnnzoo.zoo import recipes
    from cnnzoo.zoo.shards import read_shards

    artifacts = Artifacts(root)
    wanted = recipes.read(artifacts.recipes(COLLECTION))
    shards = read_shards(artifacts.checkpoints(COLLECTION))
    zoo.assemble(shards, wanted, COLLECTION, artifacts.zoo(COLLECTION), seed=0)


def compare(root: Path) -> None:
    """Compare random networks of the collection with their shards; a difference ends the benchmark."""
    import numpy as np

    from cnnzoo.core.artifacts import Artifacts
    from cnnzoo.zoo import Collection
    from cnnzoo.zoo.shards import read_shards

    zoo = Collection.open(Artifacts(root).zoo(COLLECTION))
    rng = np.random.default_rng(1)
    first = {name: row for row, name in reversed(list(enumerate(zoo.metrics["modeldir"])))}
    shards = read_shards(Artifacts(root).checkpoints(COLLECTION))
    for shard in rng.choice(np.array(shards, dtype=object), size=min(8, len(shards)), replace=False):
        weights = shard.weights()
        for index in rng.integers(0, len(shard.recipes), SAMPLED_NETWORKS // 8):
            start = first[f"{COLLECTION}/{shard.recipes[index].network:06d}"]
            for row in range(start, start + len(shard.epochs)):
                position = shard.epochs.index(zoo.metrics["step"].iloc[row])
                if not np.array_equal(zoo.weights[row], weights[index, position]):
                    raise SystemExit(f"row {row} differs from {shard.path.name}")


def check(root: Path) -> None:
    """Check the whole collection."""
    from cnnzoo.core.artifacts import Artifacts
    from cnnzoo.zoo import check as problems_of

    if problems := problems_of(Artifacts(root).zoo(COLLECTION)):
        raise SystemExit("\n".join(problems))


def features(root: Path) -> None:
    """Compute the published features of every row."""
    from cnnzoo.core.artifacts import Artifacts
    from cnnzoo.features import write_features
    from cnnzoo.zoo import Collection

    artifacts = Artifacts(root)
    write_features(Collection.open(artifacts.zoo(COLLECTION)), [FEATURES], artifacts.features(COLLECTION))


def track(root: Path) -> None:
    """Record every network in MLflow's database, as `cnnzoo track` does."""
    from cnnzoo.core.artifacts import Artifacts
    from cnnzoo.tracking import sync_zoo
    from cnnzoo.zoo import first_rows
    from cnnzoo.zoo.recipes import read
    from cnnzoo.zoo.shards import read_shards

    artifacts = Artifacts(root)
    shards, recipes = read_shards(artifacts.checkpoints(COLLECTION)), read(artifacts.recipes(COLLECTION))
    if not sync_zoo(artifacts, COLLECTION, shards, recipes, first_rows(shards, recipes)):
        raise SystemExit("the record was not written")


STEPS: dict[str, Callable[[Path], None]] = {
    "assemble": assemble,
    "compare": compare,
    "check": check,
    "features": features,
    "track": track,
}
SHOWN = ("assemble", "check", "features", "dvc add", "dvc push", "track")


def timed(command: list[str], root: Path) -> tuple[float, float]:
    """Run a command; return its seconds and its peak resident memory in GB."""
    start = time.perf_counter()
    _, status, usage = os.wait4(subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL).pid, 0)
    if status:
        raise SystemExit(f"`{' '.join(command)}` failed")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return time.perf_counter() - start, usage.ru_maxrss * unit / 1e9


def measure(root: Path, networks: int, units: int) -> dict[str, tuple[float, float]]:
    """Return what each step took for a zoo of so many networks."""
    own = [sys.executable, str(Path(__file__).resolve()), "--folder", str(root), "--units", str(units)]
    timed([*own, "--networks", str(networks), "--step", "make_shards"], root)
    found = {}
    for step in STEPS:
        found[step] = timed([*own, "--step", step], root)
        print(f"{networks:,}: {step} {found[step][0]:.0f} s, {found[step][1]:.2f} GB", file=sys.stderr, flush=True)
    dvc = [sys.executable, "-m", "dvc"]
    for command in (
        [*GIT, "init", "--quiet"],
        [*dvc, "init", "--quiet"],
        [*dvc, "remote", "add", "--quiet", "--default", "store", str(root / "store")],
    ):
        timed(command, root)
    found["dvc add"] = timed([*dvc, "add", "--quiet", f"data/zoo/{COLLECTION}"], root)
    found["dvc push"] = timed([*dvc, "push", "--quiet"], root)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, nargs="+", default=[30_000])
    parser.add_argument("--units", type=int, default=16, help="output channels of each layer")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (default: the system's)")
    parser.add_argument("--step", choices=("make_shards", *STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "make_shards":
        make_shards(arguments.folder, arguments.networks[0], arguments.units)
    elif arguments.step:
        STEPS[arguments.step](arguments.folder)
    else:
        report(arguments.networks, arguments.units, arguments.folder)


def report(sizes: list[int], units: int, folder: Path | None) -> None:
    """Measure every size and print a table as each is done."""
    print("| networks | rows | weights.npy | " + " | ".join(SHOWN) + " |")
    print("|---:|---:|---:|" + "---:|" * len(SHOWN))
    for networks in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            found = measure(Path(temporary), networks, units)
            size = (Path(temporary) / "data/zoo" / COLLECTION / "weights.npy").stat().st_size
        cells = " | ".join(f"{found[step][0]:.0f} s, {found[step][1]:.2f} GB" for step in SHOWN)
        print(f"| {networks:,} | {9 * networks:,} | {size / 1e9:.1f} GB | {cells} |", flush=True)
    from _machine import describe  # not before: children inherit the peak of this process

    print("\nTime and peak resident memory of each step; compared rows are equal, the check finds nothing. n = 1.\n")
    print(describe(("numpy", "pandas", "safetensors", "dvc", "mlflow")))


if __name__ == "__main__":
    main()
