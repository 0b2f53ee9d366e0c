"""How cohorts were divided by an earlier run, so that its resume points and finished parts are found again."""

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from cnnzoo.cluster.placement import Part
from cnnzoo.core.atomic import write_text
from cnnzoo.training.job import Job
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import SUFFIX, shard_name

FILE = "sizes.json"


class Begun:
    """The file that holds the networks of each part for each cohort, by the cohort's name."""

    def __init__(self, job: Job, cohorts: Sequence[tuple[Recipe, ...]]) -> None:
        self._job = job
        self._cohorts = cohorts
        self._names = [shard_name(job.origin, cohort) for cohort in cohorts]
        self._path = job.artifacts.parts(job.collection) / FILE

    def sizes(self) -> dict[int, list[int]]:
        """Return the sizes for those cohorts, by their place, of which anything is kept."""
        known = self._read()
        found = {index: known[name] for index, name in enumerate(self._names) if name in known}
        return {index: sizes for index, sizes in found.items() if self._has_files(self._cohorts[index], sizes)}

    def remember(self, parts: Sequence[Part]) -> None:
        """Write the sizes of this run."""
        sizes: dict[str, list[int]] = {}
        for part in sorted(parts, key=lambda part: (part.cohort, part.first)):
            sizes.setdefault(self._names[part.cohort], []).append(len(part.recipes))
        write_text(self._path, json.dumps(sizes))

    def _read(self) -> Mapping[str, list[int]]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(name): sizes for name, sizes in content.items() if _are_sizes(sizes)}
        except (OSError, ValueError, AttributeError):  # without it, all cohorts are divided from scratch
            return {}

    def _has_files(self, cohort: Sequence[Recipe], sizes: Sequence[int]) -> bool:
        if sum(sizes) != len(cohort):
            return False
        artifacts, collection = self._job.artifacts, self._job.collection
        ends = zip(sizes, accumulate(sizes), strict=True)
        names = (shard_name(self._job.origin, cohort[stop - size : stop]) for size, stop in ends)
        folders = (artifacts.unfinished(collection), artifacts.parts(collection))
        return any((folder / f"{name}{SUFFIX}").exists() for name in names for folder in folders)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(size, int) and size > 0 for size in value)
