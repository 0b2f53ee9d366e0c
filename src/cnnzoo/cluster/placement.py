"""How the work is divided: cohorts into parts that keep all workers busy to the end, the longest part first.

A network has the same bits in whatever cohort it is trained, so a cohort's shard can be put together from parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
    """How finely cohorts are divided."""

    parts_per_worker: int = 8
    """So many parts for each worker, about: the fewer, the longer the last ones keep the others waiting."""
    least_passes: int = 5_000_000
    """A part is not made smaller than this: about a minute of a core, against a second that each part costs."""

    def parts(
        self,
        cohorts: Sequence[tuple[Recipe, ...]],
        passes: Callable[[Sequence[Recipe]], int],
        workers: int,
        begun: Mapping[int, int],
    ) -> list[Part]:
        """Return the parts of all cohorts, the longest first.

        `begun` has the networks of a part for cohorts that an earlier run has begun: they stay divided as they are.
        """
        work = [passes(cohort) for cohort in cohorts]
        most = max(self.least_passes, sum(work) / (self.parts_per_worker * max(workers, 1)))
        parts = []
        for index, (cohort, total) in enumerate(zip(cohorts, work, strict=True)):
            each = total // len(cohort)
            size = begun.get(index) or (len(cohort) if total <= most else max(1, int(most // each)))
            for first in range(0, len(cohort), size):
                members = cohort[first : first + size]
                parts.append(Part(index, first, members, each * len(members)))
        return sorted(parts, key=lambda part: (-part.passes, part.cohort, part.first))


WHOLE = Division(parts_per_worker=1, least_passes=1 << 62)
"""Cohorts stay whole: for GPUs, which train hundreds of networks at once, and where bits depend on the cohort."""
