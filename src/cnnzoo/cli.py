"""The command line: what people do with a zoo beside `dvc repro`.

Everything heavy is imported inside the commands, so that `cnnzoo --help` answers at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnzoo.artifacts import Artifacts
from cnnzoo.stages.entry import explain_faults

if TYPE_CHECKING:
    from cnnzoo.planning import Cost

app = typer.Typer(
    help="Make, keep and learn from large populations of small trained networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

Root = Annotated[Path, typer.Option(help="Root of the project.", file_okay=False)]


def main() -> None:
    """Run the command line; faults that a person can mend end with one message and exit code 1."""
    app()


@app.command()
def check(path: Annotated[Path, typer.Argument(help="Folder of a collection, e.g. data/zoo/mnist5k.")]) -> None:
    """Verify a folder in the published format; say what is wrong where."""

    def work() -> None:
        from cnnzoo import collection  # noqa: PLC0415 - imports pandas
        from cnnzoo.errors import CnnzooError  # noqa: PLC0415

        problems = collection.check(path)
        if problems:
            raise CnnzooError(f"{path}: {len(problems)} problem(s)\n" + "\n".join(f"  - {p}" for p in problems))
        opened = collection.Collection.open(path)
        rows, parameters = opened.weights.shape
        typer.echo(f"{path}: valid; {len(opened.final())} networks, {rows} checkpoints of {parameters} parameters")

    _run(work)


@app.command()
def plan(
    collections: Annotated[str, typer.Option(help="Comma-separated; default: all of params.yaml.")] = "",
    networks: Annotated[int | None, typer.Option(help="What if each had so many networks?", min=2)] = None,
    epochs: Annotated[int | None, typer.Option(help="What if they trained for so many epochs?", min=1)] = None,
    root: Root = Path(),
) -> None:
    """Measure this machine for some seconds and tell what training would cost: hours, disk, memory."""

    def work() -> None:
        from cnnzoo import config, planning  # noqa: PLC0415 - torch takes seconds to import

        params = config.load(Artifacts(root).params)
        names = [name.strip() for name in collections.split(",")] if collections else list(params.populations)
        _print_costs(planning.plan(planning.what_if(params, names, networks, epochs), names))

    _run(work)


COST_LINES: dict[str, Callable[["Cost"], str]] = {
    "networks": lambda cost: f"{cost.networks:,}",
    "cohorts": lambda cost: f"{cost.cohorts:,}",
    "image passes": lambda cost: f"{cost.passes / 1e6:,.0f} million",
    "images/s, all in all": lambda cost: f"{cost.rate:,.0f}",
    "time": lambda cost: f"{cost.seconds / 3600:,.2f} hours",
    "disk": lambda cost: f"{cost.disk_bytes / 1e9:,.2f} GB",
    "memory": lambda cost: f"{cost.memory_bytes / 1e9:,.2f} GB",
    "runs in MLflow": lambda cost: f"{cost.networks:,} ({cost.tracked_bytes / 1e9:,.3f} GB)",
}


def _print_costs(costs: "Sequence[Cost]") -> None:
    from rich.console import Console  # noqa: PLC0415 - the other commands print plain text
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="Training from scratch on this machine")
    table.add_column("")
    for cost in costs:
        table.add_column(cost.collection, justify="right")
    for label, text in COST_LINES.items():
        table.add_row(label, *(text(cost) for cost in costs))
    Console().print(table)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
    root: Root = Path(),
) -> None:
    """Open MLflow on the tracked networks and predictor searches (on 127.0.0.1 only)."""

    def work() -> None:
        from cnnzoo.tracking.ui import serve_ui  # noqa: PLC0415 - mlflow takes seconds to import

        serve_ui(Artifacts(root), port)

    _run(work)


@app.command()
def track(collection: Annotated[str, typer.Argument(help="A collection of params.yaml.")], root: Root = Path()) -> None:
    """Rebuild the MLflow record of a collection from its shards, e.g. after `dvc pull`."""

    def work() -> None:
        from cnnzoo import config, recipes, tracking  # noqa: PLC0415 - mlflow takes seconds to import
        from cnnzoo.collection import first_rows  # noqa: PLC0415
        from cnnzoo.errors import CnnzooError  # noqa: PLC0415
        from cnnzoo.training.shards import read_shards  # noqa: PLC0415

        artifacts = Artifacts(root)
        config.load(artifacts.params).population(collection)
        wanted, shards = recipes.read(artifacts.recipes(collection)), read_shards(artifacts.checkpoints(collection))
        tracking.check_writable(artifacts)
        if not tracking.sync_zoo(artifacts, collection, shards, wanted, first_rows(shards, wanted)):
            raise CnnzooError("the MLflow store cannot be reached, see above; run the same command when it is back")
        typer.echo(f"{len(wanted)} networks of {collection} are on record; `cnnzoo ui` shows them")

    _run(work)


@app.command()
def score(  # noqa: PLR0913, PLR0917 - one option each
    files: Annotated[list[Path], typer.Argument(help=".safetensors, .npz, .npy, .pt, .pth, .h5 or .keras.")],
    activation: Annotated[str | None, typer.Option(help="relu or tanh, where the file does not tell.")] = None,
    collection: Annotated[str, typer.Option(help="The zoo to learn from; default: the first of params.yaml.")] = "",
    predictor: Annotated[
        str | None, typer.Option(help="Its name or folder; default: the best on weights alone.")
    ] = None,
    features: Annotated[str | None, typer.Option(help="Its feature set; default: the best.")] = None,
    neighbours: Annotated[int, typer.Option(help="How many networks of the zoo to name.", min=0)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    root: Root = Path(),
) -> None:
    """Predict the test accuracy of networks from their weights, with an interval and the most similar of the zoo."""

    def work() -> None:
        from cnnzoo import config, scoring  # noqa: PLC0415 - imports pandas and the predictor's library

        params = config.load(Artifacts(root).params)
        name = collection or params.collections[0]
        question = scoring.Question(name, predictor, features, activation, neighbours)
        answer = scoring.answer(Artifacts(root), params, files, question)
        typer.echo(answer.json()) if as_json else answer.print()

    _run(work)


@app.command()
def register(
    collection: Annotated[str, typer.Argument(help="Default: the first of params.yaml.")] = "", root: Root = Path()
) -> None:
    """Register a collection's best predictor in MLflow, for `mlflow models serve`: weights in, accuracy out."""

    def work() -> None:
        from cnnzoo import config, scoring  # noqa: PLC0415 - mlflow takes seconds to import
        from cnnzoo.collection import Collection  # noqa: PLC0415
        from cnnzoo.tracking.location import tracking_uri  # noqa: PLC0415
        from cnnzoo.tracking.registry import register_scorer  # noqa: PLC0415

        artifacts = Artifacts(root)
        params = config.load(artifacts.params)
        name = collection or params.collections[0]
        best, scorer = scoring.choose_scorer(artifacts, params, name)
        example = scoring.network_of(Collection.open(artifacts.zoo(name)))
        uri = register_scorer(artifacts, name, scorer, example, asdict(best))
        typer.echo(f"{best.predictor} on {best.features} is now {uri}. Serve it on this machine with")
        typer.echo(f"  MLFLOW_TRACKING_URI={tracking_uri(artifacts)} mlflow models serve --env-manager local -m {uri}")

    _run(work)


@app.command("import-zoo")
def import_zoo(
    source: Annotated[Path, typer.Argument(help="An archive such as mnist.tar.xz, or a folder in that format.")],
    name: Annotated[str | None, typer.Option(help="Of the collection; default: the archive's.")] = None,
    dataset: Annotated[str | None, typer.Option(help="What its networks were trained on, if nothing tells.")] = None,
    root: Root = Path(),
) -> None:
    """Make a published collection one of the project: checked, copied to data/zoo, entered in params.yaml."""

    def work() -> None:
        from cnnzoo import importing  # noqa: PLC0415 - imports pandas

        done = importing.import_zoo(Artifacts(root), source, name, dataset)
        typer.echo(f"{done.folder}: {done.networks:,} networks on {done.dataset}, {done.checkpoints:,} checkpoints.")
        typer.echo(f"params.yaml now has {done.name} in `imported` and `collections`. Next:")
        typer.echo("  dvc repro                     learn from it, compare and report")
        typer.echo(f"  dvc add {done.folder}   version it")

    _run(work)


def _run(work: Callable[[], None]) -> None:
    code = explain_faults(work)
    if code:
        raise typer.Exit(code)
