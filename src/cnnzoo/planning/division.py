"""Which worker of a cluster trains which networks, and when: the longest first, and the last ones in pieces.

Whole cohorts are placed by list scheduling, the longest first (LPT; Graham, SIAM J. Appl. Math. 17, 1969): on m equal
workers never more than 4/3 - 1/(3m) times the shortest time that there is. With few cohorts for each worker that is
not enough: the last cohort ends long after the others. So cohorts are divided as loops are in guided self-scheduling
and factoring (Polychronopoulos, Kuck, IEEE Trans. Comput. 36, 1987; Hummel, Schonberg, Flynn, CACM 35, 1992): a
worker takes a part of its share of what is left, so that pieces are large at first and small at the end.

A network's bits do not depend on the networks beside it (native, cuda and reference engine; tests/training/
test_native.py), so the pieces of a cohort, put together in order, are the cohort.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

SHARE = 0.7
"""Of a worker's share of what is left, what it takes at most: a worker that turns out a third slower is not late."""
LEAST_OVERHEADS = 5.0
"""A piece takes at least so many times its overhead, if its cohort does."""


@dataclass(frozen=True)
class Worker:
    """What trains one piece at a time: a core, some cores together, or a GPU."""

    kind: str
    """Workers of a kind are alike."""
    lanes: int
    """Networks that it trains side by side in the time of one."""


@dataclass(frozen=True)
class Load:
    """A cohort, as far as its placement goes."""

    networks: int
    network_s: Mapping[str, float]
    """Time of one network in one lane, for each kind of worker; any unit will do, if it is that of `overhead_s`."""
    overhead_s: float = 0.0
    """Of each piece, however many networks it has."""


@dataclass(frozen=True)
class Piece:
    """Networks `start` to `stop` (exclusive) of one cohort, on one worker."""

    load: int
    start: int
    stop: int
    worker: int
    begin_s: float
    end_s: float


def place(loads: Sequence[Load], workers: Sequence[Worker], whole: bool = False) -> list[Piece]:
    """Return who trains what, in the order in which the pieces begin; together they are all networks, each once.

    A worker that is free takes networks of the cohort that is hardest to divide: whose networks take longest. It
    declines those that another kind of worker would finish before it, even if that began them last of all. A piece is
    a whole number of rounds, as many networks as the worker has lanes, or the end of a cohort. With `whole` nothing is
    divided, and the longest cohort comes first.

    A function of its arguments alone: whoever wants the same pieces after a restart passes the same cohorts, with
    costs that do not change from run to run, such as image passes.
    """
    waiting = _Waiting(loads, workers, whole)
    free = [(0.0, index) for index in range(len(workers))]
    pieces: list[Piece] = []
    while waiting.order:
        now, index = heapq.heappop(free)
        taken = waiting.take(workers[index])
        if taken is None:
            continue  # for good: what is waiting becomes less
        load, start, stop = taken
        end = now + piece_s(loads[load], workers[index], stop - start)
        pieces.append(Piece(load, start, stop, index, now, end))
        heapq.heappush(free, (end, index))
    return pieces


def piece_s(load: Load, worker: Worker, networks: int) -> float:
    """Return the time that a worker takes for so many networks of a cohort: round by round, and the overhead."""
    return math.ceil(networks / worker.lanes) * load.network_s[worker.kind] + load.overhead_s


def makespan_s(pieces: Sequence[Piece]) -> float:
    """Return the time at which the last piece ends."""
    return max((piece.end_s for piece in pieces), default=0.0)


def perfect_s(loads: Sequence[Load], workers: Sequence[Worker]) -> float:
    """Return the time that all lanes of all workers would take together: no overhead, nobody idle.

    On workers of one kind nothing is faster. The utilisation of a placement is this over its makespan.
    """
    return sum(load.networks * alone_s for load, alone_s in zip(loads, _alone_s(loads, workers), strict=True))


def _alone_s(loads: Sequence[Load], workers: Sequence[Worker]) -> list[float]:
    """Return the cluster's time for one network of each cohort, were all lanes busy with its like."""
    lanes: Counter[str] = Counter()
    for worker in workers:
        lanes[worker.kind] += worker.lanes
    return [1 / sum(count / load.network_s[kind] for kind, count in lanes.items()) for load in loads]


class _Waiting:
    """The networks that nobody has taken, and who takes which."""

    def __init__(self, loads: Sequence[Load], workers: Sequence[Worker], whole: bool) -> None:
        self.loads, self.whole = loads, whole
        self.alone_s = _alone_s(loads, workers)
        self.lanes = {worker.kind: worker.lanes for worker in workers}
        self.left = [load.networks for load in loads]
        self.left_s = perfect_s(loads, workers)
        self.order = sorted(range(len(loads)), key=self._rank)

    def take(self, worker: Worker) -> tuple[int, int, int] | None:
        """Return cohort, start and stop of what a worker takes, None if it had better take nothing."""
        for index in self._acceptable(worker):
            start = self.loads[index].networks - self.left[index]
            networks = self.left[index] if self.whole else self._portion(index, worker)
            self.left[index] -= networks
            self.left_s -= networks * self.alone_s[index]
            if not self.left[index]:
                self.order.remove(index)
            return index, start, start + networks
        return None

    def _rank(self, index: int) -> tuple[float, int]:
        load = self.loads[index]
        size = load.networks if self.whole else 1
        return -min(_rounds_s(load, kind, lanes, size) for kind, lanes in self.lanes.items()), index

    def _acceptable(self, worker: Worker) -> Iterator[int]:
        for index in self.order:
            load, size = self.loads[index], self.left[index] if self.whole else 1
            best = min(_rounds_s(load, kind, lanes, size) for kind, lanes in self.lanes.items())
            if _rounds_s(load, worker.kind, worker.lanes, size) <= max(0.0, self.left_s) + best:
                yield index

    def _portion(self, index: int, worker: Worker) -> int:
        load = self.loads[index]
        round_s = load.network_s[worker.kind]
        most, least = SHARE * self.left_s / round_s, LEAST_OVERHEADS * load.overhead_s / round_s
        return min(self.left[index], max(1, math.floor(most), math.ceil(least)) * worker.lanes)


def _rounds_s(load: Load, kind: str, lanes: int, networks: int) -> float:
    return math.ceil(networks / lanes) * load.network_s[kind]
