"""A thread that delivers operations to a store, in order, and spools what cannot be delivered.

Who submits never waits and never sees an error: training must not depend on its record.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice, takewhile

from cnnzoo.tracking.runs import Operation, joined
from cnnzoo.tracking.spool import Spool
from cnnzoo.tracking.store import Store, apply, reason

log = logging.getLogger(__name__)

RETRY_S = 30.0
"""How long an unreachable store is left alone."""

MOST_AT_ONCE = 32
"""How many additions that wait are written together: the store needs half the time for all checkpoints of a cohort."""

Make = Callable[[], Operation]


class Writer:
    """Delivers operations in the background until `close`."""

    def __init__(self, open_store: Callable[[], Store], spool: Spool, retry_s: float = RETRY_S) -> None:
        self._open = open_store
        self._spool = spool
        self._retry_s = retry_s
        self._pending: deque[tuple[Make, bool]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._abandoned = False
        self._store: Store | None = None
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="cnnzoo-tracking", daemon=True)
        self._thread.start()

    def submit(self, make: Make, adds: bool = False) -> None:
        """Deliver what `make` returns; it is called in the background.

        `adds` says that the operation's action is `log`: those that wait one behind the other are done as one.
        """
        with self._changed:
            self._pending.append((make, adds))
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Deliver what is pending; what is still pending after `timeout_s` is spooled."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._pending, timeout_s)
            self._abandoned = bool(self._pending)
            left = list(self._pending)
        for make, _ in left:  # the first may be under way: done twice, it is done once
            self._keep(make)
        if not left:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self._deliver(None)  # what a former process spooled
        while waiting := self._next():
            self._handle(waiting)
            with self._changed:
                if self._abandoned:
                    return
                for _ in waiting:
                    self._pending.popleft()
                self._changed.notify_all()
        self._let_go()

    def _next(self) -> list[Make]:
        """Wait for work; nothing when closed and done. Meanwhile the spool is tried again from time to time."""
        while True:
            with self._changed:
                has_work = self._changed.wait_for(lambda: bool(self._pending) or self._closing, self._retry_s)
                if has_work:
                    first = list(islice(self._pending, MOST_AT_ONCE))
                    additions = [make for make, _ in takewhile(lambda event: event[1], first)]
                    return additions or [make for make, _ in first[:1]]
            if self._spool.files():
                self._deliver(None)

    def _handle(self, waiting: Sequence[Make]) -> None:
        made, operations = [], []
        for make in waiting:
            try:
                operations.append(make())
                made.append(make)
            except Exception:
                log.exception("an event could not be recorded in MLflow; the shards keep its content")
        if operations and not self._deliver(joined(operations)):
            for make in made:
                self._keep(make)

    def _deliver(self, operation: Operation | None) -> bool:
        """Do what is spooled, then the operation; returns False if the store refused."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            if self._store is None:
                self._store = self._open()
            store = self._store
            self._spool.replay(lambda spooled: apply(store, spooled))
            if operation is not None:
                apply(store, operation)
        except Exception as error:  # whatever MLflow, a driver or the network raise
            self._warn(error)
            self._let_go()
            self._retry_at = time.monotonic() + self._retry_s
            return False
        self._retry_at = 0.0
        return True

    def _warn(self, error: Exception) -> None:
        if not self._retry_at:  # once per outage
            log.warning(
                "MLflow cannot be reached (%s). Training goes on; its events wait in %s and are replayed when the "
                "store answers again.",
                reason(error),
                self._spool.folder,
            )

    def _keep(self, make: Make) -> None:
        try:
            self._spool.append(make())
        except Exception as error:
            log.warning("an event could not even be spooled (%s); the shards keep its content", error)

    def _let_go(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None
