"""Does every reader withstand damaged and hostile files? See tests/fuzzing.py for what counts as a finding.

    python benchmarks/fuzz.py [inputs] [seed]

Prints the inputs of each reader, and every finding with the number that makes it again.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cnnzoo.core.cores import usable_cores
from fuzzing import Finding, run, targets

INPUTS = 100_000


def campaign(part: int, parts: int, inputs: int, seed: int, folder: Path, answer: Connection) -> None:
    """Try every `parts`-th input."""
    found = targets(folder)
    jobs = [(found[number % len(found)], number) for number in range(part, inputs, parts)]
    start = time.monotonic()

    def done(count: int) -> None:
        if part == 0 and count % 200 == 0:
            left = (time.monotonic() - start) / count * (len(jobs) - count) / 60
            print(f"{count * parts:,} of {inputs:,} inputs, {left:.0f} min left", file=sys.stderr, flush=True)

    answer.send(run(jobs, seed, folder / "inputs", done))


def main() -> None:
    """Divide the inputs among the cores and print what was found."""
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else INPUTS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    cores, context = usable_cores(), get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ends, workers = [], []
        for part in range(cores):
            mine, theirs = context.Pipe()
            worker = context.Process(
                target=campaign, args=(part, cores, inputs, seed, Path(folder) / str(part), theirs)
            )
            worker.start()
            ends.append(mine)
            workers.append(worker)
        findings: list[Finding] = [finding for end in ends for finding in end.recv()]
        for worker in workers:
            worker.join()
    for finding in sorted(findings, key=lambda finding: (finding.target, finding.number)):
        print(f"{finding.target} input {finding.number} of seed {seed}: {finding.what}")
    kinds = Counter((finding.target, finding.what.split(":")[0]) for finding in findings)
    for (target, what), count in sorted(kinds.items()):
        print(f"{count:6,}  {target}: {what}")
    print(f"{inputs:,} inputs, {len(findings):,} findings")


if __name__ == "__main__":
    main()
