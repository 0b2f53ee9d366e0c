"""What training on a cluster would take: the real cohorts of collections, placed on workers of known rates.

A worker is a core, or a GPU. Simulated are training, evaluation, and Lightning's own time for each piece. Left out are
the start of the cluster and the ways of images and shards through the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnzoo.config import Params
from cnnzoo.network.layout import Architecture
from cnnzoo.planning.cluster import CORE, Cluster, Group, Rate
from cnnzoo.planning.cost import Machine, Rates, extent_of, kind_of, measure_kinds, this_cpu, work_of
from cnnzoo.planning.division import Load, Worker, makespan_s, perfect_s, place
from cnnzoo.training.cohorts import group
from cnnzoo.zoo import recipes
from cnnzoo.zoo.recipes import Recipe

RATED_SIDE = 28
"""Pixels of the images for which rates are given."""
EVALUATION = 3.0
"""How many times as fast as trained a network is evaluated where only the rate of training is given: training uses
each kernel three times, evaluation once."""


@dataclass(frozen=True)
class Placement:
    """The training of cohorts on a cluster."""

    pieces: int
    seconds: float
    """From the first to the last piece."""
    utilisation: float
    """The share of the time of all cores and GPUs in which they train and evaluate as fast as they can."""


@dataclass(frozen=True)
class Simulated:
    """The training of one collection, or of several at once."""

    name: str
    cohorts: int
    divided: Placement
    whole: Placement
    """The same without dividing any cohort."""
    price: float | None
    """Of the cluster for that time; None if there are no prices."""


def simulate(params: Params, collections: Sequence[str], cluster: Cluster) -> list[Simulated]:
    """Return what each collection would take on the cluster, and, of several, what all would take at once.

    Where the cluster has cores without a rate, those of this machine are measured. Raises `CnnzooError` if they cannot
    be, or if a collection is unknown.
    """
    workers = workers_of(params, cluster)
    loads = [loads_of(params, name, cluster) for name in collections]
    rows = [_simulate(name, of, workers, cluster) for name, of in zip(collections, loads, strict=True)]
    if len(rows) > 1:
        rows.append(_simulate("all at once", [load for of in loads for load in of], workers, cluster))
    return rows


def _simulate(name: str, loads: Sequence[Load], workers: Sequence[Worker], cluster: Cluster) -> Simulated:
    divided, whole = (_placement(loads, workers, whole) for whole in (False, True))
    hourly = cluster.hourly
    price = None if hourly is None else hourly * divided.seconds / 3600
    return Simulated(name, len(loads), divided, whole, price)


def _placement(loads: Sequence[Load], workers: Sequence[Worker], whole: bool) -> Placement:
    pieces = place(loads, workers, whole)
    seconds = makespan_s(pieces)
    return Placement(len(pieces), seconds, perfect_s(loads, workers) / seconds)


def workers_of(params: Params, cluster: Cluster) -> list[Worker]:
    """Return the cores and GPUs of a cluster, group by group."""
    return [
        Worker(each.device, _lanes(each, cluster, params))
        for each in cluster.groups
        for _ in range(each.count * max(1, each.cores))
    ]


def loads_of(params: Params, collection: str, cluster: Cluster) -> list[Load]:
    """Return the cohorts of a collection, in the order in which `training.cohorts.group` makes them."""
    machine = _this_machine(params, cluster)
    cohorts = group(recipes.draw(params, collection), params.train.cohort_size)
    side = extent_of(params, collection).side
    measured = measure_kinds(machine, params, collection, cohorts) if machine else {}

    def network_s(each: Group, first: Recipe) -> float:
        """Return the time of one network in one lane."""
        work = work_of(params, collection, first)
        if each.cores and CORE not in cluster.rates:
            return work.seconds(measured[kind_of(first)])
        given = cluster.rates[CORE if each.cores else each.device]
        return work.seconds(_rates(given, _lanes(each, cluster, params), first.architecture, side))

    return [
        Load(
            networks=len(cohort),
            network_s={each.device: network_s(each, cohort[0]) for each in cluster.groups},
            overhead_s=work_of(params, collection, cohort[0]).overhead_s,
        )
        for cohort in cohorts
    ]


def _lanes(each: Group, cluster: Cluster, params: Params) -> int:
    """Return the networks side by side: one on a core; on a GPU as many as its rate was measured with."""
    return 1 if each.cores else cluster.rates[each.device].networks or params.train.cohort_size


def _rates(given: Rate, lanes: int, architecture: Architecture, side: int) -> Rates:
    """Return the rates of one lane, for networks of another shape in proportion to their multiply-adds."""
    published = Architecture(num_units=16, num_layers=3).multiply_adds(RATED_SIDE)
    train = given.images_s / lanes * published / architecture.multiply_adds(side)
    return Rates(train, EVALUATION * train)


def _this_machine(params: Params, cluster: Cluster) -> Machine | None:
    """Return this machine's cores, if the cluster has some whose rate is not given."""
    if CORE in cluster.rates or not any(each.cores for each in cluster.groups):
        return None
    return this_cpu(params)
