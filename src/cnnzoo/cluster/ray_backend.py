"""Ray as the pool's backend: the only module that imports it.

One task a call, as a streaming generator: what it yields lies in the object store of its node until the driver fetches
it. Ray itself repeats nothing: the pool does, from the newest resume point.
"""

import importlib.util
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cnnzoo.cluster.pool import ENDED, Lost, Message
from cnnzoo.config import Runtime
from cnnzoo.core.cores import usable_cores
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.signals import STOPPING

ADDRESS = "RAY_ADDRESS"
CONNECT_S = 5
"""How long an address has to answer."""
FETCH_S = 120
"""How long the driver waits for an object that Ray says is ready."""
UNTAKEN = 2
"""Messages of a task that may wait for the driver; then the task's messages wait."""
LOOK_AGAIN_S = 2.0
"""How often the driver asks which nodes there are."""
SETTINGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else Ray uploads the working directory under `uv run`
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a warning: tasks without a GPU do not look for one
    "RAY_gcs_server_port_wait_time_s": str(CONNECT_S),
}
"""Environment variables that Ray reads when it is imported; those that are set already stay."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Without a cluster, Ray's servers listen at 127.0.0.1 alone, as they always do on Windows and macOS."""
OTHER_CODE = ("failed to import on the worker", "No module named", "Can't get attribute")
"""What Ray says of a worker without this package, or with another version of it."""


def require_ray() -> None:
    """Raise `CnnzooError` if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise CnnzooError(
            "`runtime.executor: ray` needs Ray, which is not installed here. Install it with "
            "`pip install -c constraints.txt -e '.[ray]'`, or use `local`."
        )


def _ray(alone: bool) -> Any:
    for name, value in {**SETTINGS, **(ALONE if alone else {})}.items():
        os.environ.setdefault(name, value)
    import ray

    return ray


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to."""

    ray: Any

    def count(self, resource: str) -> int:
        """Return how much of a resource (`CPU`, `GPU`) the nodes have that are there now."""
        return int(self.ray.cluster_resources().get(resource, 0))

    def cores_of_smallest_node(self) -> int:
        """Return how many cores every node has that has any; 1 if there is none."""
        nodes = [node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"]]
        return int(min((cores for cores in nodes if cores), default=1))

    def put(self, value: Any) -> Any:
        """Put a value into the object store, once for all workers; returns what stands for it in calls."""
        return self.ray.put(value)


@contextmanager
def connected(runtime: Runtime) -> Iterator[Cluster]:
    """Connect to the cluster at RAY_ADDRESS, or start one on this machine; it, or the connection, is gone afterwards.

    Raises `CnnzooError` that names the address if no cluster answers there.
    """
    address = os.environ.get(ADDRESS, "").removeprefix("local")
    _check_address(address)
    ray = _ray(alone=not address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    here = {"num_cpus": runtime.threads or usable_cores(), "include_dashboard": False}
    try:
        with _own_handlers():
            try:
                ray.init(address or "local", **quiet, **({} if address else here))
            except (ConnectionError, ValueError) as error:
                raise _unreachable(address, error) from error
        yield Cluster(ray)
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise `CnnzooError` if no gRPC server answers at an address; Ray itself would try for minutes."""
    if address in {"", "auto"}:
        return
    if "://" in address:
        raise CnnzooError(
            f"{ADDRESS}={address}: Ray's client protocol is not supported. Run this on a node of the cluster, with "
            f"{ADDRESS}=auto or the address of its head, `host:6379`."
        )
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S) as connection:
            if "RAY_USE_TLS" not in os.environ:
                _check_http2(connection)
    except (OSError, ValueError) as error:
        raise _unreachable(address, error) from error


def _check_http2(connection: socket.socket) -> None:
    """Raise `ValueError` unless the other side speaks HTTP/2, as gRPC does: it answers with a frame of settings."""
    settings, empty_frame = 4, bytes(9)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + empty_frame[:3] + bytes([settings]) + empty_frame[4:])
    if connection.recv(9)[3:4] != bytes([settings]):
        raise ValueError("what listens there is not Ray")


def _unreachable(address: str, error: Exception) -> CnnzooError:
    return CnnzooError(
        f"no Ray cluster answers at {ADDRESS}={address} ({error}). Start one there (`ray start --head`) and run this "
        f"on one of its nodes, correct the address, or unset {ADDRESS} to use this machine alone."
    )


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Put back the signal handlers that Ray replaces."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Call:
    """What a task gets: `arguments`, and a `large` one, which is not copied for each of the nodes it passes."""

    arguments: tuple[Any, ...]
    large: Any = None


class RayBackend:
    """Runs calls of one generator function, each on some cores of a cluster or, with a core, on one of its GPUs."""

    def __init__(
        self, cluster: Cluster, function: Callable[..., Iterator[list[Any]]], cores: int = 1, gpu: bool = False
    ) -> None:
        self._cluster = cluster
        self._ray = cluster.ray
        self._cores = cores
        self._gpu = gpu
        self._remote = self._ray.remote(
            num_cpus=cores,
            num_gpus=1 if gpu else 0,
            max_retries=0,
            num_returns="streaming",
            _generator_backpressure_num_objects=UNTAKEN,
        )(function)
        self._running: dict[Hashable, Any] = {}
        self._workers = 0
        self._looked_at = -LOOK_AGAIN_S

    def workers(self) -> int:
        """Return how many tasks run at a time now."""
        if time.monotonic() - self._looked_at >= LOOK_AGAIN_S:
            self._workers = self._cluster.count("CPU") // self._cores
            if self._gpu:
                self._workers = min(self._workers, self._cluster.count("GPU"))
            self._looked_at = time.monotonic()
        return self._workers

    def start(self, call: Call) -> Hashable:
        """Hand out a call."""
        large = () if call.large is None else (self._ray.put(call.large),)
        stream = self._remote.remote(*call.arguments, *large)
        self._running[id(stream)] = stream
        return id(stream)

    def wait(self, timeout_s: float) -> Iterator[tuple[Hashable, Message]]:
        """Yield what has come."""
        streams = {stream: handle for handle, stream in self._running.items()}
        if not streams:
            return
        ready, _ = self._ray.wait(list(streams), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(list(streams), num_returns=len(streams), timeout=0)
        for stream in ready:
            yield streams[stream], self._next(streams[stream], stream)

    def cancel(self, handles: Iterable[Hashable]) -> None:
        """End tasks at once, by killing their workers."""
        for handle in handles:
            if handle in self._running:  # else it has ended already, and nobody was told yet
                self._ray.cancel(self._running.pop(handle), force=True)

    def _next(self, handle: Hashable, stream: Any) -> Message:
        """Return the next message of a task, which is ready."""
        errors = self._ray.exceptions
        try:
            events: list[Any] = self._ray.get(next(stream), timeout=FETCH_S)
            return events
        except StopIteration:
            del self._running[handle]
            return ENDED
        except errors.RayTaskError as error:
            raise _cause(error) from error
        except errors.RayError as error:
            if any(words in str(error) for words in OTHER_CODE):
                raise _other_code(error) from error
            self.cancel([handle])
            return _loss(error, errors)


def _cause(error: Any) -> Exception:
    """Return what a task raised."""
    if any(words in str(error) for words in OTHER_CODE):
        return _other_code(error)
    if isinstance(error.cause, CnnzooError):
        return CnnzooError(str(error.cause))
    return RuntimeError(str(error))


def _other_code(error: Exception) -> CnnzooError:
    last = str(error).strip().splitlines()[-1]
    return CnnzooError(
        f"a worker has no cnnzoo, or another version than the driver ({last}). Install the same version on all "
        "machines of the cluster."
    )


def _loss(error: Exception, errors: Any) -> Lost:
    """Return how a task was lost, in a few words."""
    if isinstance(error, errors.OutOfMemoryError):
        return Lost("its worker was killed for lack of memory", out_of_memory=True)
    if isinstance(error, errors.NodeDiedError | errors.LocalRayletDiedError):
        return Lost("its node died")
    if isinstance(error, errors.WorkerCrashedError):
        return Lost("its worker died")
    if isinstance(error, errors.ObjectLostError):
        return Lost("what it sent was lost with its node")
    return Lost(type(error).__name__)
