"""What `cnnzoo plan` prints."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from cnnzoo.planning.cluster import CORE, Cluster
from cnnzoo.planning.cost import Cost
from cnnzoo.planning.simulation import Simulated

COST_LINES: Mapping[str, Callable[[Cost], str]] = {
    "networks": lambda cost: f"{cost.networks:,}",
    "cohorts": lambda cost: f"{cost.cohorts:,}",
    "image passes": lambda cost: f"{cost.passes / 1e6:,.0f} million",
    "images/s, all in all": lambda cost: f"{cost.rate:,.0f}",
    "time": lambda cost: f"{cost.seconds / 3600:,.2f} hours",
    "disk": lambda cost: f"{cost.disk_bytes / 1e9:,.2f} GB",
    "memory": lambda cost: f"{cost.memory_bytes / 1e9:,.2f} GB",
    "runs in MLflow": lambda cost: f"{cost.networks:,} ({cost.tracked_bytes / 1e9:,.3f} GB)",
}
CLUSTER_LINES: Mapping[str, Callable[[Simulated], str]] = {
    "cohorts": lambda row: f"{row.cohorts:,}",
    "pieces": lambda row: f"{row.divided.pieces:,}",
    "time": lambda row: _duration(row.divided.seconds),
    "utilisation": lambda row: f"{row.divided.utilisation:.1%}",
    "time, undivided": lambda row: _duration(row.whole.seconds),
    "utilisation, undivided": lambda row: f"{row.whole.utilisation:.1%}",
}
PRICE_LINE: Mapping[str, Callable[[Simulated], str]] = {"price": lambda row: f"{row.price:,.2f}"}


def print_costs(costs: Sequence[Cost]) -> None:
    """Print what each collection costs on this machine, a column each."""
    _print("Training from scratch on this machine", COST_LINES, costs, [cost.collection for cost in costs])


def print_simulated(rows: Sequence[Simulated], cluster: Cluster) -> None:
    """Print what each collection takes on a cluster, a column each, and what the rates are."""
    lines = {**CLUSTER_LINES, **PRICE_LINE} if cluster.prices else CLUSTER_LINES
    groups = " and ".join(group.label for group in cluster.groups)
    _print(f"Training from scratch on {groups}, simulated", lines, rows, [row.name for row in rows])
    given = [f"{name} {rate.images_s:,.0f} images/s (given)" for name, rate in cluster.rates.items()]
    measured = [f"{CORE} as measured on this machine"] if CORE not in cluster.rates and _has_cores(cluster) else []
    Console().print(f"Rates: {', '.join([*measured, *given])}. Starting the cluster and its network take more.")
    if _has_cores(cluster) and not all(group.cores for group in cluster.groups):
        Console().print(
            "Where there are GPUs, the executor `ray` leaves the cores idle: plan the GPUs alone to see what it does."
        )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} hours" if seconds >= 3600 else f"{seconds / 60:,.1f} min"


def _has_cores(cluster: Cluster) -> bool:
    return any(group.cores for group in cluster.groups)


def _print(title: str, lines: Mapping[str, Callable[..., str]], rows: Sequence[object], names: Sequence[str]) -> None:
    table = Table(title=title)
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for label, text in lines.items():
        table.add_row(label, *(text(row) for row in rows))
    Console().print(table)
