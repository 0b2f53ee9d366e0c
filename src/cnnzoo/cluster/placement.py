"""How the work is divided: cohorts into parts that keep all workers busy to the end, those of long networks first.

A network has the same bits in whatever cohort it is trained, so a cohort's shard can be put together from parts. The
rule is that of `cnnzoo plan --cluster`: `cnnzoo.planning.division.place`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from cnnzoo.planning.cluster import CORE
from cnnzoo.planning.division import Load, Piece, Worker, place
from cnnzoo.zoo.recipes import Recipe


@dataclass(frozen=True, eq=False)
class Part:
    """Networks of one cohort that one worker trains; compared by identity."""

    cohort: int
    """The place of the cohort in the list of all."""
    first: int
    """The place of the first network in its cohort; the others follow it."""
    recipes: tuple[Recipe, ...]
    passes: int
    """Image passes (images x networks) of its training."""


@dataclass(frozen=True)
class Division:
    """How cohorts are divided."""

    overhead_passes: int = 150_000
    """What each part costs, in image passes: a second of a core. A part is at least five times as long."""
    whole: bool = False
    """Whether cohorts stay whole."""

    def parts(
        self,
        cohorts: Sequence[tuple[Recipe, ...]],
        passes: Callable[[Sequence[Recipe]], int],
        workers: int,
        begun: Mapping[int, Sequence[int]],
    ) -> list[Part]:
        """Return the parts of all cohorts in the order in which they are handed out.

        `begun` has the networks of each part for cohorts that an earlier run has begun: they stay divided as they are,
        and come first.
        """
        each = [passes(cohort) // len(cohort) for cohort in cohorts]
        fresh = [index for index in range(len(cohorts)) if index not in begun]
        loads = [Load(len(cohorts[index]), {CORE: each[index]}, self.overhead_passes) for index in fresh]
        cuts = [(index, stop - size, stop) for index, sizes in begun.items() for size, stop in _stops(sizes)]
        cuts.sort(key=lambda cut: (-each[cut[0]] * (cut[2] - cut[1]), cut))
        cuts += [(fresh[piece.load], piece.start, piece.stop) for piece in self.place(loads, max(workers, 1))]
        return [
            Part(index, first, cohorts[index][first:stop], each[index] * (stop - first)) for index, first, stop in cuts
        ]

    def place(self, loads: Sequence[Load], workers: int) -> list[Piece]:
        """Return the pieces of fresh cohorts for so many equal workers, in the order in which they begin."""
        return place(loads, [Worker(CORE, 1)] * workers, self.whole)


def _stops(sizes: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(sizes, accumulate(sizes), strict=True))


WHOLE = Division(whole=True)
"""For GPUs, which train hundreds of networks at once, and where bits depend on the cohort."""
