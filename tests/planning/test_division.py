"""Who trains what, and when: closed forms, the optimum by exhaustive search, and what must hold for any cluster."""

import itertools
import random

import pytest

from cnnzoo.planning.division import Load, Piece, Worker, makespan_s, perfect_s, piece_s, place

NODE = Worker("node", 1)


def jobs(*seconds: float) -> list[Load]:
    """Return cohorts of one network each: they cannot be divided."""
    return [Load(1, {"node": each}) for each in seconds]


def optimum(seconds: list[float], workers: int) -> float:
    """Return the shortest makespan of all assignments."""
    best = sum(seconds)
    for assignment in itertools.product(range(workers), repeat=len(seconds) - 1):
        loads = [0.0] * workers
        for worker, each in zip((0, *assignment), seconds, strict=True):
            loads[worker] += each
        best = min(best, max(loads))
    return best


def random_loads(rng: random.Random, kinds: tuple[str, ...], overhead_s: float = 0.0) -> list[Load]:
    return [
        Load(rng.randint(1, 300), {kind: rng.uniform(0.5, 9) for kind in kinds}, overhead_s)
        for _ in range(rng.randint(1, 40))
    ]


def check(pieces: list[Piece], loads: list[Load], workers: list[Worker]) -> None:
    """Each network is trained once, no worker does two things at once, and each piece takes its time."""
    for index, load in enumerate(loads):
        of = sorted((piece.start, piece.stop) for piece in pieces if piece.load == index)
        assert [network for start, stop in of for network in range(start, stop)] == list(range(load.networks))
    for index in range(len(workers)):
        mine = [piece for piece in pieces if piece.worker == index]
        assert all(before.end_s <= after.begin_s for before, after in itertools.pairwise(mine))
    for piece in pieces:
        took = piece_s(loads[piece.load], workers[piece.worker], piece.stop - piece.start)
        assert piece.end_s - piece.begin_s == pytest.approx(took)
    assert pieces == sorted(pieces, key=lambda piece: piece.begin_s)


def test_a_piece_takes_rounds_of_lanes_and_its_overhead():
    load = Load(100, {"node": 2.0}, overhead_s=0.5)
    for networks, rounds in ((1, 1), (8, 1), (9, 2), (100, 13)):
        assert piece_s(load, Worker("node", 8), networks) == 2 * rounds + 0.5


@pytest.mark.parametrize("whole", [True, False])
def test_graham_s_example_takes_11_where_9_would_do(whole):
    """Graham 1969, figure 5: the worst case of LPT on three workers, 4/3 - 1/9 = 11/9 of the optimum."""
    seconds = [5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 3.0]
    assert optimum(seconds, 3) == 9
    assert makespan_s(place(jobs(*seconds), [NODE] * 3, whole)) == 11


@pytest.mark.parametrize("seed", range(40))
def test_whole_cohorts_take_at_most_4_3rds_of_the_optimum(seed):
    rng = random.Random(seed)
    workers = rng.randint(2, 3)
    seconds = [float(rng.randint(1, 20)) for _ in range(rng.randint(1, 7))]
    found = makespan_s(place(jobs(*seconds), [NODE] * workers, whole=True))
    assert optimum(seconds, workers) <= found <= (4 / 3 - 1 / (3 * workers)) * optimum(seconds, workers) + 1e-9


@pytest.mark.parametrize("seed", range(40))
def test_no_worker_is_idle_before_the_last_piece_has_begun(seed):
    """List scheduling: what is waited for at the end is one piece (Graham 1966)."""
    rng = random.Random(seed)
    workers = [Worker("node", rng.choice([1, 4, 64]))] * rng.randint(1, 12)
    loads = random_loads(rng, ("node",), overhead_s=rng.choice([0.0, 1.0]))
    for whole in (True, False):
        pieces = place(loads, workers, whole)
        check(pieces, loads, workers)
        busy = sum(piece.end_s - piece.begin_s for piece in pieces)
        last = max(pieces, key=lambda piece: piece.end_s)
        m = len(workers)
        assert makespan_s(pieces) <= busy / m + (1 - 1 / m) * (last.end_s - last.begin_s) + 1e-9
        assert makespan_s(pieces) >= perfect_s(loads, workers) - 1e-9
        assert len(pieces) == len(loads) or not whole


@pytest.mark.parametrize("seed", range(20))
def test_any_mix_of_workers_trains_every_network_once(seed):
    rng = random.Random(seed)
    workers = [Worker("small", 2)] * rng.randint(1, 4) + [Worker("gpu", 264)] * rng.randint(1, 3)
    rng.shuffle(workers)
    loads = random_loads(rng, ("small", "gpu"), overhead_s=0.3)
    for whole in (True, False):
        check(place(loads, workers, whole), loads, workers)


@pytest.mark.parametrize(("networks", "workers", "lanes"), [(64, 4, 4), (96, 3, 2), (1, 5, 1), (7, 7, 1)])
def test_networks_that_are_alike_fill_all_lanes_of_all_workers(networks, workers, lanes):
    """One cohort whose rounds can be dealt out evenly takes exactly its share, though it began as one."""
    loads = [Load(networks, {"node": 3.0})]
    pieces = place(loads, [Worker("node", lanes)] * workers)
    assert makespan_s(pieces) == 3 * -(-networks // (lanes * workers))
    assert makespan_s(place(loads, [Worker("node", lanes)] * workers, whole=True)) == 3 * -(-networks // lanes)


def test_pieces_are_whole_rounds_but_for_the_end_of_a_cohort():
    loads = [Load(250, {"node": 2.0}), Load(99, {"node": 5.0})]
    for piece in place(loads, [Worker("node", 16)] * 3):
        assert (piece.stop - piece.start) % 16 == 0 or piece.stop == loads[piece.load].networks
        assert piece.start % 16 == 0


def test_pieces_become_smaller_towards_the_end_but_not_below_five_overheads():
    loads = [Load(4000, {"node": 1.0}, overhead_s=2.0)]
    pieces = place(loads, [NODE] * 8)
    lengths = [piece.stop - piece.start for piece in pieces]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == int(0.7 * 4000 / 8)
    assert min(lengths[:-1]) == 10


def test_the_longest_networks_are_trained_first_though_their_cohort_is_the_smallest():
    loads = [Load(1000, {"node": 1.0}), Load(3, {"node": 50.0}), Load(200, {"node": 7.0})]
    pieces = place(loads, [NODE] * 4)
    begun = {index: min(n for n, piece in enumerate(pieces) if piece.load == index) for index in range(3)}
    assert sorted(begun, key=lambda index: begun[index]) == [1, 2, 0]


def test_whole_cohorts_go_by_their_length_not_by_that_of_their_networks():
    loads = [Load(1000, {"node": 1.0}), Load(3, {"node": 50.0}), Load(200, {"node": 7.0})]
    assert [piece.load for piece in place(loads, [NODE], whole=True)] == [2, 0, 1]


def test_a_slow_worker_does_not_take_what_a_fast_one_would_finish_first():
    """The GPU trains both networks in 2 s; the node would take 100 s for either, so it takes none."""
    loads = [Load(1, {"node": 100.0, "gpu": 1.0})] * 2
    pieces = place(loads, [NODE, Worker("gpu", 1)])
    assert [piece.worker for piece in pieces] == [1, 1]
    assert makespan_s(pieces) == 2
    many = place([Load(1, {"node": 100.0, "gpu": 1.0})] * 1000, [NODE, Worker("gpu", 1)])
    assert sum(piece.worker == 0 for piece in many) == 9
    assert makespan_s(many) <= 1000


def test_a_slow_worker_takes_what_it_can_finish_in_time():
    """It declines the long network and takes short ones for 98 s; the GPU has 1 s left for the last after its 100."""
    loads = [Load(1, {"node": 500.0, "gpu": 100.0}), Load(50, {"node": 2.0, "gpu": 1.0})]
    pieces = place(loads, [NODE, Worker("gpu", 1)])
    assert {piece.load for piece in pieces if piece.worker == 0} == {1}
    assert makespan_s(pieces) == 101


def test_the_same_arguments_give_the_same_pieces():
    loads = random_loads(random.Random(5), ("node",))
    assert place(loads, [Worker("node", 3)] * 5) == place(list(loads), [Worker("node", 3)] * 5)


def test_nothing_to_train_takes_no_time():
    assert place([], [NODE]) == []
    assert makespan_s([]) == perfect_s([], [NODE]) == 0
