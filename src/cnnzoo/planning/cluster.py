"""A cluster as one writes it on the command line: its machines and GPUs, their rates, their prices.

`8x64,4xH100` is 8 machines with 64 cores each, and 4 GPUs of the name H100: a number counts cores, a name that begins
with a letter is a GPU's. `H100=20.4e6/264` is its rate in images/s, reached with 264 networks side by side;
`core=90000` is that of one core. `64=1.10` is the price of an hour of a machine with 64 cores, `H100=2.50` that of a
GPU.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cnnzoo.core.errors import CnnzooError, counted, did_you_mean
from cnnzoo.core.numbers import DIGITS, whole_number

CORE = "core"
GROUP = re.compile(rf"({DIGITS})x({DIGITS}|[A-Za-z][\w.-]*)", re.ASCII)
CLUSTER_FORM = "`--cluster` takes COUNTxCORES for machines and COUNTxNAME for GPUs, with commas: `8x64,4xH100`"
RATE_FORM = "`--rate` takes NAME=IMAGES_PER_SECOND, for a GPU also NAME=IMAGES_PER_SECOND/NETWORKS: `H100=20.4e6/264`"
PRICE_FORM = "`--price` takes CORES=PRICE or NAME=PRICE, of an hour of one machine or GPU: `64=1.10`, `H100=2.50`"
MOST = 100_000
LEAST, GREATEST = 1e-6, 1e15
"""Of rates and prices: what no machine reaches, and no arithmetic breaks at."""
"""Machines and GPUs of a group, and cores of a machine."""


@dataclass(frozen=True)
class Group:
    """Machines with so many cores, or GPUs of one name."""

    count: int
    device: str
    """The number of cores, or the GPU's name: what rates and prices call it."""

    @property
    def cores(self) -> int:
        """Of each machine; 0 for a GPU."""
        return int(self.device) if self.device.isdigit() else 0

    @property
    def label(self) -> str:
        """For people."""
        cores = f" with {counted(self.cores, 'core')}"
        return f"{counted(self.count, 'machine')}{cores}" if self.cores else f"{self.count:,} {self.device}"


@dataclass(frozen=True)
class Rate:
    """What someone has measured: training images/s of the published network on 28x28 images."""

    images_s: float
    networks: int | None = None
    """Networks side by side at this rate; None: those of a whole cohort."""


@dataclass(frozen=True)
class Cluster:
    """Groups of workers, and what is known about them."""

    groups: tuple[Group, ...]
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """By GPU, and of one core under CORE."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """Of one machine or GPU for an hour, by device."""

    @property
    def hourly(self) -> float | None:
        """The price of the whole cluster for an hour; None if there are no prices."""
        return sum(group.count * self.prices[group.device] for group in self.groups) if self.prices else None


def read_cluster(text: str, rates: Sequence[str] = (), prices: Sequence[str] = ()) -> Cluster:
    """Read the options of the command line.

    Raises `CnnzooError` for what cannot be read, for a GPU without a rate, for prices of some groups only, and for
    rates and prices of what is not in the cluster. Cores need no rate: this machine's can be measured.
    """
    groups = tuple(_group(part.strip()) for part in text.split(","))
    devices = [group.device for group in groups]
    if len(set(devices)) < len(devices):
        raise CnnzooError(f"`--cluster {text}` names a device twice; add the counts up")
    known_rates = {name: _rate(name, value) for name, value in _pairs(rates, RATE_FORM).items()}
    rated = [CORE if group.cores else group.device for group in groups]
    _refuse_unknown("--rate", known_rates, rated, RATE_FORM)
    if missing := [name for name in rated if name not in known_rates and name != CORE]:
        raise CnnzooError(
            f"nobody has said how fast {_listed(missing)} trains: add `--rate {missing[0]}=IMAGES_PER_SECOND`, as "
            "measured there (benchmarks/gpu.py, `cnnzoo plan`); rates are never guessed"
        )
    known_prices = {name: _positive(value, PRICE_FORM) for name, value in _pairs(prices, PRICE_FORM).items()}
    _refuse_unknown("--price", known_prices, devices, PRICE_FORM)
    if known_prices and (missing := [name for name in devices if name not in known_prices]):
        raise CnnzooError(f"`--price` names no price of {_listed(missing)}: give the prices of all groups, or of none")
    return Cluster(groups, known_rates, known_prices)


def _group(part: str) -> Group:
    found = GROUP.fullmatch(part)
    if not found:
        raise CnnzooError(f"`{part}` is no group of a cluster. {CLUSTER_FORM}")
    count, device = int(found[1]), found[2].lstrip("0") if found[2].isdigit() else found[2]
    if not 1 <= count <= MOST or (found[2].isdigit() and not 1 <= int(found[2]) <= MOST):
        raise CnnzooError(f"`{part}`: counts and cores must be from 1 to {MOST:,}. {CLUSTER_FORM}")
    if device == CORE:
        raise CnnzooError(f"`{part}`: `{CORE}` is the name of a core's rate, not of a GPU. {CLUSTER_FORM}")
    return Group(count, device)


def _pairs(texts: Sequence[str], form: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not (name and separator and value):
            raise CnnzooError(f"`{text}` has not the form of a value. {form}")
        if name in pairs:
            raise CnnzooError(f"`{name}` has two values, {pairs[name]} and {value}. {form}")
        pairs[name] = value
    return pairs


def _rate(name: str, text: str) -> Rate:
    images_s, separator, networks = text.partition("/")
    if not separator:
        return Rate(_positive(images_s, RATE_FORM))
    count = whole_number(networks)
    if name == CORE or count is None or not 1 <= count <= MOST:
        raise CnnzooError(f"`{name}={text}`: networks are 1 to {MOST:,}, of a GPU; a core trains one. {RATE_FORM}")
    return Rate(_positive(images_s, RATE_FORM), count)


def _positive(text: str, form: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST <= value <= GREATEST:
        raise CnnzooError(f"`{text}` is no positive number. {form}, values from {LEAST:g} to {GREATEST:g}")
    return value


def _refuse_unknown(option: str, given: Mapping[str, object], known: Sequence[str], form: str) -> None:
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise CnnzooError(f"`{option} {name}=...`: the cluster has {_listed(sorted(set(known)))}{hint}. {form}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
