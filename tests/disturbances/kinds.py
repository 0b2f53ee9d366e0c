"""The kinds of faults: how each disturbs a stage, and what a user would do about it before running it again."""

import math
import shutil
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disturbances.network import slow_server
from disturbances.processes import NO_FAULT, Ended, Fault, Running, Server
from disturbances.project import STAGES, remove_outputs
from small_project import ALPHA, SmallProject

MODULE = "cnnzoo.stages."
RECORDING = ("train", "search")
ADDRESS = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Scene:
    """A stage that is to be disturbed."""

    server: Server
    project: SmallProject
    stage: str
    seconds: float
    """How long it takes undisturbed."""
    written: int
    """How many bytes it writes."""
    database: Path
    """MLflow's, of an undisturbed project."""
    rng: np.random.Generator

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.project.root

    def start(self, fault: Fault = NO_FAULT, stage: str = "") -> Running:
        """Start the stage, or another one."""
        name = stage or self.stage
        argument = [STAGES[name][0]] if STAGES[name][0] else []
        return self.server.start(self.root, MODULE + name, *argument, fault=fault)

    def run(self, fault: Fault = NO_FAULT, stage: str = "") -> Ended:
        """Run the stage, or another one."""
        return self.start(fault, stage).wait()

    def between(self, least: float, most: float) -> float:
        """Draw a positive number, uniform in its logarithm."""
        return float(math.exp(self.rng.uniform(math.log(least), math.log(most))))

    def pick(self, *choices: str) -> str:
        """Draw one of these."""
        return choices[int(self.rng.integers(len(choices)))]


def nothing(_: Scene) -> None:
    """Do no more than to run again."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    disturb: Callable[[Scene], Ended]
    """Runs the stage with the fault."""
    stages: tuple[str, ...] = tuple(STAGES)
    mend: Callable[[Scene], None] = nothing
    """What the error message asks of the user."""
    weight: int = 1
    """How often, beside the others."""
    hows: tuple[str, ...] = ("went on", "refused")
    """How the stage may end; see `Ended.how`."""


def send(number: int) -> Callable[[Scene], Ended]:
    """Return a fault: a signal at a random moment."""

    def disturb(scene: Scene) -> Ended:
        delay = float(scene.rng.uniform(0, scene.seconds))
        for _ in range(10):
            running = scene.start()
            if not running.has_ended_within(delay, number):
                return running.wait()
            remove_outputs(scene.root, scene.stage)  # it was faster than usual
            delay *= 0.7
        return running.wait()

    return disturb


def fill_disk(scene: Scene) -> Ended:
    """Let the disk fill while the stage writes."""
    free = 0 if scene.rng.random() < 0.1 else int(scene.between(1, scene.written))
    return scene.run(Fault(what=f"full:{free}:{scene.root}"))


def make_read_only(scene: Scene) -> Ended:
    """Let the project, or a folder that the stage writes to, be read-only."""
    folder = scene.pick("", "data/unfinished", "mlruns", "data", STAGES[scene.stage][1])
    return scene.run(Fault(what=f"read-only:{scene.root / folder}".rstrip("/")))


def press_memory(scene: Scene) -> Ended:
    """Let memory run out."""
    return scene.run(Fault(memory_bytes=int(scene.between(1 << 18, 1 << 29))))


def jump_clock(scene: Scene) -> Ended:
    """Let the time of day jump twenty times a second, by up to a second, an hour or ten days."""
    span_s = scene.pick("1", "3600", "864000")
    return scene.run(Fault(what=f"clock:{span_s}:{int(scene.rng.integers(1 << 32))}"))


def run_twice(scene: Scene) -> Ended:
    """Start the stage twice at once; one of the two has to do the work."""
    first = scene.start()
    time.sleep(float(scene.rng.uniform(0, scene.seconds)))
    ends = [running.wait() for running in (scene.start(), first)]
    unclear = [end for end in ends if end.how not in {"went on", "refused"}]
    if unclear or all(end.code for end in ends):
        return unclear[0] if unclear else Ended(1, "both failed: " + ends[0].said.replace("error:", "-"))
    return max(ends, key=lambda end: end.code)


def damage_file(path: Path, rng: np.random.Generator) -> None:
    """Cut a file, or change a bit, or overwrite up to a page."""
    content, mode = bytearray(path.read_bytes()), path.stat().st_mode
    place = int(rng.integers(len(content)))
    match int(rng.integers(3)):
        case 0:
            del content[place:]
        case 1:
            content[place] ^= 1 << int(rng.integers(8))
        case _:
            content[place : place + 4096] = rng.bytes(min(4096, len(content) - place))
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)  # DVC looks into an object of its cache only if it could have been written to


def shards(scene: Scene) -> list[Path]:
    """Return the shards that are there."""
    return sorted(scene.project.artifacts.checkpoints(ALPHA).glob("*.safetensors"))


def damage_shard(scene: Scene) -> Ended:
    """Damage a shard before it is read: by `train`, which keeps what it has, or by `assemble`."""
    if scene.stage == "train":
        scene.run()
    path = shards(scene)[int(scene.rng.integers(len(shards(scene))))]
    damage_file(path, scene.rng)
    ended = scene.run()
    if ended.code == 0 and scene.stage == "train":  # it reads no weights of a shard that is done
        ended = scene.run(stage="assemble")
        shutil.rmtree(scene.root / STAGES["assemble"][1], ignore_errors=True)
    return ended if ended.code == 0 or path.name in ended.said else Ended(ended.code, f"{path.name} is not named")


def delete_damaged_shard(scene: Scene) -> None:
    """Delete the shard that `assemble` names, and train its networks again."""
    for path in shards(scene):
        if not _is_sound(scene, path):
            path.unlink()
    scene.run(stage="train")


def _is_sound(scene: Scene, path: Path) -> bool:
    from cnnzoo.core.errors import CnnzooError
    from cnnzoo.zoo.shards import read_shard

    try:
        read_shard(path).weights()
    except CnnzooError:
        return False
    return True


def damage_points(scene: Scene) -> Ended:
    """Kill the stage, and damage what it would go on from."""
    running = scene.start()
    running.has_ended_within(float(scene.rng.uniform(0.3, 1)) * scene.seconds, signal.SIGKILL)
    running.wait()
    for path in sorted((scene.root / "data" / "unfinished").rglob("*")):
        if path.is_file() and path.stat().st_size:
            damage_file(path, scene.rng)
    return scene.run()


def damage_database(scene: Scene) -> Ended:
    """Put a damaged database into the place of MLflow's."""
    path = scene.project.artifacts.mlruns / "mlflow.db"
    path.parent.mkdir(exist_ok=True)
    if scene.rng.random() < 0.2:
        path.write_bytes(scene.rng.bytes(10_000))
    else:
        shutil.copy(scene.database, path)
        damage_file(path, scene.rng)
    return scene.run()


def move_database_away(scene: Scene) -> None:
    """Move MLflow's database away and rebuild the record."""
    (scene.project.artifacts.mlruns / "mlflow.db").unlink()
    with suppress(FileNotFoundError):
        scene.server.start(scene.root, "cnnzoo", "track").wait()


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None, timeout=10)) as connection:
        with suppress(sqlite3.OperationalError):  # is being made
            connection.execute("BEGIN IMMEDIATE")
        yield


def lock_database(scene: Scene) -> Ended:
    """Let another process lock MLflow's database for a while."""
    path = scene.project.artifacts.mlruns / "mlflow.db"
    running = scene.start()
    while not path.exists() and not running.has_ended_within(0.01):
        pass
    running.has_ended_within(float(scene.rng.uniform(0, scene.seconds)))
    with _locked(path):
        running.has_ended_within(float(scene.rng.uniform(0.1, 3)))
    return running.wait()


def hide_server(scene: Scene) -> Ended:
    """Give the address of a tracking server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return scene.run(Fault({ADDRESS: f"http://127.0.0.1:{port}", "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}))


def slow_down_server(scene: Scene) -> Ended:
    """Let the tracking server answer late, with an error, or never."""
    with slow_server(float(scene.rng.uniform(0.1, 1.5)), int(scene.rng.integers(1 << 32))) as address:
        return scene.run(Fault({ADDRESS: address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}))


STOPPED = ("went on", "stopped")
KINDS = {
    kind.name: kind
    for kind in (
        Kind("SIGKILL", send(signal.SIGKILL), weight=3, hows=STOPPED),
        Kind("SIGTERM", send(signal.SIGTERM), weight=3, hows=STOPPED),
        Kind("Ctrl-C", send(signal.SIGINT), weight=3, hows=STOPPED),
        Kind("full disk", fill_disk, weight=3),
        Kind("read-only folder", make_read_only, weight=2),
        Kind("memory pressure", press_memory, weight=2, hows=("went on", "refused", "aborted")),
        Kind("clock that jumps", jump_clock, hows=("went on",)),
        Kind("two at once", run_twice),
        Kind("damaged shard", damage_shard, ("train", "assemble"), delete_damaged_shard, hows=("refused",)),
        Kind("damaged resume point", damage_points, RECORDING, hows=("went on",)),
        Kind("damaged mlflow.db", damage_database, RECORDING, move_database_away),
        Kind("locked mlflow.db", lock_database, RECORDING, hows=("went on",)),
        Kind("unreachable server", hide_server, RECORDING, hows=("went on",)),
        Kind("slow server", slow_down_server, RECORDING, hows=("went on",)),
    )
}
