"""Does the pipeline withstand faults of the machine? See tests/disturbances for the faults and for what must hold.

    python benchmarks/faults.py [--faults N] [--seed S] [--kinds "SIGKILL,full disk,dvc repro"] [--only PASS]

Prints a line for each fault and the table by kind. A fault that fails says how to make it again, and its project is
kept. Linux, with a C compiler.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

from _machine import describe
from disturbances.campaign import Progress, Result, Undisturbed, draw_plan, run_pass, table
from disturbances.kinds import KINDS
from disturbances.processes import Server
from disturbances.versions import DVC, GROUP, run_group

ALL = (*KINDS, DVC)
PACKAGES = ("dvc", "mlflow", "optuna", "pytorch-lightning", "torch")


def main() -> None:
    """Run a campaign and print its table; the exit status is 1 if a fault failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(ALL), help="separated by commas; default: all")
    parser.add_argument("--only", type=int, help="the one pass to run; those of `dvc repro` come after the others")
    arguments = parser.parse_args()
    begun, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="cnnzoo-disturbed-"))
    results = run(arguments, folder)
    minutes = (time.monotonic() - begun) / 60
    print(f"\n{describe(PACKAGES)}\n- seed {arguments.seed}, {minutes:.0f} minutes\n\n{table(results)}")
    if any(result.wrong for result in results):
        sys.exit(f"projects of the faults that failed: {folder}")
    shutil.rmtree(folder)


def run(arguments: argparse.Namespace, folder: Path) -> list[Result]:
    """Run the passes in a folder."""
    kinds = [name.strip() for name in arguments.kinds.split(",")]
    stage_kinds = [name for name in kinds if name != DVC]
    groups = (arguments.faults // 100 if stage_kinds else max(1, arguments.faults // GROUP)) if DVC in kinds else 0
    plan = draw_plan(arguments.faults - groups * GROUP, arguments.seed, stage_kinds) if stage_kinds else []
    passes = range(len(plan) + groups) if arguments.only is None else [arguments.only]
    faults = sum(len(plan[number]) if number < len(plan) else GROUP for number in passes)
    progress = Progress(faults, lambda line: print(line, flush=True))
    again = f"python benchmarks/faults.py --faults {arguments.faults} --seed {arguments.seed}"
    again += "" if kinds == list(ALL) else f' --kinds "{arguments.kinds}"'
    with Server(folder) as server, ThreadPoolExecutor(2) as pool:
        undisturbed = Undisturbed.make(server, folder / "undisturbed")
        print("undisturbed:", ", ".join(f"{name} {s:.1f} s" for name, s in undisturbed.seconds.items()), flush=True)

        def go(number: int) -> None:
            root, seed = folder / f"pass-{number}", (arguments.seed, 1, number)
            if number < len(plan):
                results = run_pass(server, undisturbed, root, plan[number], seed)
            else:
                results = run_group(root, server.shim, undisturbed.state, np.random.default_rng(seed))
            for result in results:
                progress.add(result, f"{again} --only {number}")

        def go_through(numbers: Sequence[int]) -> None:
            for number in numbers:
                go(number)

        # Those of `dvc repro` beside the others.
        parts = [[n for n in passes if (n < len(plan)) is stages] for stages in (True, False)]
        for done in [pool.submit(go_through, part) for part in parts]:
            done.result()
    return progress.results


if __name__ == "__main__":
    main()
