"""A campaign: a plan drawn from a seed, its passes, and the table of what became of the faults."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnzoo.images import ImageSet
from disturbances.kinds import KINDS, RECORDING, Kind, Scene
from disturbances.processes import Server
from disturbances.project import DATASET, STAGES, State, faults_of, make_project
from small_project import SmallProject

Plan = list[dict[str, str]]
"""For each pass the kind of fault at each stage; a stage without one runs undisturbed."""


@dataclass(frozen=True)
class Result:
    """What became of a fault."""

    place: str
    """Its pass and its stage."""
    kind: str
    how: str
    """How the disturbed process ended; see `Ended.how`."""
    wrong: tuple[str, ...] = ()
    """What was not as it should be, then or after the stage had run again."""


def draw_plan(faults: int, seed: int, kinds: Sequence[str]) -> Plan:
    """Return passes with so many faults in all, by their weights; the stages of a pass are in order.

    The stages that take longest have a fault in some of the passes only.
    """
    rng = np.random.default_rng([seed, 0])
    seldom = {"images": 4, "report": 3}
    counts = dict.fromkeys(kinds, 0)
    plan: Plan = []
    while sum(counts.values()) < faults:
        plan.append({})
        for stage in STAGES:
            possible = [name for name in kinds if stage in KINDS[name].stages]
            if len(plan) % seldom.get(stage, 1) == 0 and possible and sum(counts.values()) < faults:
                due = [(counts[name] + rng.random()) / KINDS[name].weight for name in possible]
                chosen = possible[int(np.argmin(due))]
                counts[chosen] += 1
                plan[-1][stage] = chosen
        if not any(stage in KINDS[name].stages for name in kinds for stage in STAGES):
            raise ValueError(f"no stage can have a fault of the kinds {', '.join(kinds)}")
    return plan


@dataclass(frozen=True)
class Undisturbed:
    """A project that was left in peace."""

    root: Path
    state: State
    seconds: dict[str, float]
    """Of each stage."""

    @classmethod
    def make(cls, server: Server, root: Path, images: ImageSet | None = None, last: str = "report") -> "Undisturbed":
        """Run all stages until `last`; `images` take the place of the first one."""
        project, seconds = make_project(root), {}
        if images is not None:
            images.save(project.artifacts.images(DATASET))
        for stage in list(STAGES)[images is not None : list(STAGES).index(last) + 1]:
            begun = time.monotonic()
            run_stage(server, project, stage)
            seconds[stage] = time.monotonic() - begun
        return cls(root, State.of(root), seconds)

    def scene(self, server: Server, project: SmallProject, stage: str, rng: np.random.Generator) -> Scene:
        """Return a stage of a project that is to be disturbed."""
        database = self.root / "mlruns" / "mlflow.db"
        folder = self.root / STAGES[stage][1]
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        written += database.stat().st_size if stage in RECORDING else 0
        return Scene(server, project, stage, self.seconds[stage], written, database, rng)


def run_stage(server: Server, project: SmallProject, stage: str) -> None:
    """Run a stage undisturbed; raises `RuntimeError` if it fails."""
    argument = [STAGES[stage][0]] if STAGES[stage][0] else []
    ended = server.start(project.root, f"cnnzoo.stages.{stage}", *argument).wait()
    if ended.how != "went on":
        raise RuntimeError(f"{stage}, undisturbed: {ended.how}: {ended.said[-2000:]}")


def run_pass(
    server: Server, undisturbed: Undisturbed, folder: Path, kinds: dict[str, str], seed: Sequence[int]
) -> Iterator[Result]:
    """Take a new project through the stages, with a fault at each stage of `kinds`; its folder stays if one fails.

    It ends with the last of these, and begins with images that are there unless that stage is among them.
    """
    project, failed = make_project(folder), False
    last = max(map(list(STAGES).index, kinds), default=-1)
    if "images" not in kinds:
        shutil.copytree(undisturbed.root / "data/images", folder / "data/images")
    for number, stage in list(enumerate(STAGES))["images" not in kinds : last + 1]:
        if stage in kinds:
            scene = undisturbed.scene(server, project, stage, np.random.default_rng([*seed, number]))
            result = disturb(KINDS[kinds[stage]], scene, undisturbed.state.until(stage), folder.name)
            yield result
            if result.wrong:
                failed = True
                project = begin_again(server, undisturbed, project, stage)
        else:
            run_stage(server, project, stage)
    if not failed:
        shutil.rmtree(folder)


def disturb(kind: Kind, scene: Scene, expected: State, place: str) -> Result:
    """Run a stage with a fault and then again; returns what is wrong with the project then."""
    wrong: list[str] = []
    how = "hung"
    try:
        ended = kind.disturb(scene)
        how = ended.how
        if how not in kind.hows:
            wrong.append(f"{how}: {ended.said[-3000:]}")
        kind.mend(scene)
        again = scene.run()
        if again.how != "went on":
            wrong.append(f"run again, {again.how}: {again.said[-3000:]}")
        wrong += faults_of(scene.root, expected)
    except TimeoutError as error:
        wrong.append(str(error))
    return Result(f"{place}, {scene.stage}", kind.name, how, tuple(wrong))


def begin_again(server: Server, undisturbed: Undisturbed, failed: SmallProject, stage: str) -> SmallProject:
    """Return a sound project in which a stage and all before it are done, in another folder."""
    root = failed.root.with_name(f"{failed.root.name}-after-{stage}")
    project = make_project(root)
    for name in undisturbed.state.until(stage).files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(undisturbed.root / name, root / name)
    for recording in RECORDING:
        if list(STAGES).index(recording) <= list(STAGES).index(stage):
            run_stage(server, project, recording)
    return project


ENDS = ("went on", "stopped", "refused", "aborted")


def table(results: Iterable[Result]) -> str:
    """Return a Markdown table: a line for each kind of fault, and their sum."""
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(result.kind, []).append(result)
    lines = [f"| fault | number | {' | '.join(ENDS)} | recovered | failures |", "|---|" + "---:|" * 7]
    whole = [result for found in rows.values() for result in found]
    for name, found in [*rows.items(), ("all", whole)]:
        hows = [sum(result.how == how for result in found) for how in ENDS]
        failures = sum(bool(result.wrong) for result in found)
        cells = [len(found), *hows, len(found) - failures, failures]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


class Progress:
    """Tells of each result, and how long the rest will take."""

    def __init__(self, faults: int, tell: Callable[[str], None]) -> None:
        self.faults, self.tell = faults, tell
        self.results: list[Result] = []
        self._begun = time.monotonic()

    def add(self, result: Result, again: str) -> None:
        """Note a result; `again` is the command that makes it again. Threads may call it."""
        self.results.append(result)
        done = len(self.results)
        left = (time.monotonic() - self._begun) / done * (self.faults - done) / 60
        outcome = "FAILED" if result.wrong else "recovered"
        self.tell(f"[{done}/{self.faults}, {left:.0f} min left] {result.place}: {result.kind}: {result.how}, {outcome}")
        for line in result.wrong:
            self.tell(f"    {line}")
        if result.wrong:
            self.tell(f"    again: {again}")
