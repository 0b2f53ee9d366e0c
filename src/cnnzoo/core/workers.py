"""Parallel jobs, each in its own process; their events go to listeners in the process that started them.

A job is a picklable callable of one argument, its listener. Every method that it calls on it is called here, in the
same order, so what must be in one place (a database, a test's spy) stays in one process.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from cnnzoo.core.errors import CnnzooError

Job = TypeVar("Job", bound=Callable[[Any], Any])
Listen = Callable[[Job], AbstractContextManager[object]]
"""Opens the listener of a job; it is closed with the error if the job fails, and with GeneratorExit if another does."""

CALL, RESULT, ERROR = "call", "result", "error"
"""What a worker sends: a call to the listener (name, arguments), the job's result, or what the job raised."""
GRACE_S = 5
"""How long a process may take to end by itself."""


def run_jobs(jobs: Sequence[Job], listen: Listen[Job], workers: int) -> Iterator[tuple[Job, Any]]:
    """Run jobs, at most `workers` at a time, in order; yields each with its result as it ends.

    A single worker is this process itself. Raises what the first failing job raises, or `CnnzooError` if a worker was
    killed; all other workers are then stopped. They also end by themselves if this process is killed.
    """
    if workers < 2 or len(jobs) < 2:
        for job in jobs:
            with listen(job) as listener:
                result = job(listener)
            yield job, result
        return
    waiting = deque(jobs)
    busy: dict[Connection, tuple[Job, Generator[None, None, Any]]] = {}
    try:
        with _processes(min(workers, len(jobs))) as idle:
            while waiting or busy:
                while idle and waiting:
                    job, connection = waiting.popleft(), idle.pop()
                    busy[connection] = job, _follow(job, listen, connection)
                    next(busy[connection][1])
                ready = wait(list(busy))
                for connection in [one for one in busy if one in ready]:
                    job, following = busy[connection]
                    try:
                        next(following)
                    except StopIteration as end:
                        del busy[connection]
                        idle.append(connection)
                        yield job, end.value
    finally:
        for _, following in busy.values():
            following.close()


def _follow(job: Job, listen: Listen[Job], connection: Connection) -> Generator[None, None, Any]:
    """Hand a job to a worker; to be resumed at each of its messages. Returns the job's result."""
    with listen(job) as listener:
        with _killed_worker_named():
            connection.send(job)
        while True:
            yield
            with _killed_worker_named():
                kind, content = connection.recv()
            if kind == RESULT:
                return content
            if kind == ERROR:
                raise content
            name, arguments = content
            getattr(listener, name)(*arguments)


@contextmanager
def _killed_worker_named() -> Iterator[None]:
    """Turn the end of a connection into a `CnnzooError`: a job that raises is reported before its worker ends."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise CnnzooError(
            "a worker process was killed, perhaps for lack of memory. Lower `runtime.threads` in params.yaml, "
            "so that fewer workers run at a time, and run again: finished work is kept."
        ) from error


@contextmanager
def _processes(count: int) -> Iterator[list[Connection]]:
    """Start workers and yield the connections to them; ends them at once if the block raises."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that it does not copy
    pairs = [context.Pipe() for _ in range(count)]
    processes = [context.Process(target=_serve, args=(there,), daemon=True) for _, there in pairs]
    patience = 0
    try:
        with _ignoring_ctrl_c():
            for process, (_, there) in zip(processes, pairs, strict=True):
                process.start()
                there.close()
        yield [here for here, _ in pairs]
        patience = GRACE_S
    finally:
        for here, _ in pairs:
            here.close()
        for process in processes:
            if process.pid is not None:
                process.join(patience)
                process.terminate()
                process.join()


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Let processes that are started here ignore Ctrl-C, which reaches all of them: the first one ends the others."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Listener:
    """Stands in for the listener in a worker: passes every call on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self._connection.send((CALL, (name, arguments)))


def _serve(connection: Connection) -> None:
    """Run the jobs that arrive through a connection until it is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            connection.send((RESULT, job(_Listener(connection))))
        except BaseException as error:  # raised again where the listener is
            connection.send((ERROR, _portable(error)))


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: a killed run must leave no writer behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _portable(error: BaseException) -> Exception:
    """Return an error that another process can raise; an unexpected one carries its traceback."""
    if isinstance(error, CnnzooError) or (isinstance(error, OSError) and error.errno is not None):
        return error
    return RuntimeError(traceback.format_exc())
