"""The command line: what people do with a zoo beside `dvc repro`.

Everything heavy is imported inside the commands, so that `cnnzoo --help` answers at once.
"""

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import counted
from cnnzoo.stages.entry import explain_faults, read_params

app = typer.Typer(
    help="Make, keep and learn from large populations of small trained networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

Root = Annotated[Path, typer.Option(help="Root of the project.", file_okay=False)]


def main() -> None:
    """Run the command line; faults that a user can correct end with one message and exit code 1."""
    app()


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Folder of a collection, e.g. data/zoo/mnist5k.")],
    lock: Annotated[Path | None, typer.Option(help="A dvc.lock: are these the bytes that it names?")] = None,
) -> None:
    """Verify a folder in the published format; say what is wrong where."""

    def work() -> None:
        from cnnzoo import zoo
        from cnnzoo.core.errors import CnnzooError
        from cnnzoo.stages.lock import is_as_locked

        is_exact = zoo.claims_our_form(path) or not path.is_dir()
        problems, changes = (zoo.check(path), []) if is_exact else zoo.check_readable(path)
        if problems:
            listed = "\n".join(f"  - {problem}" for problem in problems)
            raise CnnzooError(f"{path}: {counted(len(problems), 'problem')}\n{listed}")
        if changes:
            typer.echo(f"{path}: readable, but not in the exact form, which `cnnzoo import-zoo` makes:")
            typer.echo("\n".join(f"  - {change}" for change in changes))
            return
        opened = zoo.Collection.open(path)
        grade = "valid, in the exact form" if is_exact else "readable"
        rows, parameters = opened.weights.shape
        networks = len(opened.final())
        held = f"{counted(networks, 'network')}, {counted(rows, 'checkpoint')} of {counted(parameters, 'parameter')}"
        if lock is None:
            typer.echo(f"{path}: {grade}; {held}")
        elif is_as_locked(path, lock):
            typer.echo(f"{path}: {grade}; {held}; the bytes that {lock} names")
        else:
            raise CnnzooError(f"{path}: {grade}; {held}; other bytes than those that {lock} names")

    _run(work)


@app.command()
def plan(
    collections: Annotated[str, typer.Option(help="Comma-separated; default: all of params.yaml.")] = "",
    networks: Annotated[int | None, typer.Option(help="What if each had so many networks?", min=2)] = None,
    epochs: Annotated[int | None, typer.Option(help="What if they trained for so many epochs?", min=1)] = None,
    cluster: Annotated[str, typer.Option(help="Simulate one: 8x64,4xH100 = 8 machines of 64 cores, 4 GPUs.")] = "",
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Images/s of a GPU or a core of the cluster: H100=20.4e6/264 (with 264 networks), core=9e4."),
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="Of an hour of one machine or GPU: 64=1.10, H100=2.50.")
    ] = None,
    root: Root = Path(),
) -> None:
    """Measure this machine for some seconds and print what training would cost; or simulate it on a cluster."""

    def work() -> None:
        from cnnzoo.core.errors import CnnzooError
        from cnnzoo.planning import cost, tables
        from cnnzoo.planning.cluster import CLUSTER_FORM, read_cluster
        from cnnzoo.planning.simulation import simulate

        if (rate or price) and not cluster:
            raise CnnzooError(f"`--rate` and `--price` are those of a cluster. {CLUSTER_FORM}")
        params = read_params(Artifacts(root))
        names = [name.strip() for name in collections.split(",")] if collections else list(params.populations)
        asked = cost.what_if(params, names, networks, epochs)
        if cluster:
            machines = read_cluster(cluster, rate or (), price or ())
            tables.print_simulated(simulate(asked, names, machines), machines)
        else:
            tables.print_costs(cost.plan(asked, names))

    _run(work)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000, root: Root = Path()
) -> None:
    """Open MLflow on the tracked networks and predictor searches (on 127.0.0.1 only)."""

    def work() -> None:
        from cnnzoo.tracking.ui import serve_ui

        serve_ui(Artifacts(root), port)

    _run(work)


@app.command()
def track(
    collection: Annotated[str, typer.Argument(help="Of params.yaml; default: all of them.")] = "", root: Root = Path()
) -> None:
    """Rebuild the MLflow record, networks and searches, from the project's files, e.g. after `dvc pull`."""

    def work() -> None:
        from cnnzoo.tracking.rebuild import rebuild

        artifacts = Artifacts(root)
        params = read_params(artifacts)
        if collection:
            params.definition(collection)  # raises for an unknown one
        for line in rebuild(artifacts, params, [collection] if collection else [*params.populations, *params.imported]):
            typer.echo(line)
        typer.echo("`cnnzoo ui` shows them")

    _run(work)


@app.command()
def prune(
    remove: Annotated[bool, typer.Option("--remove", help="Remove them; without it they are listed.")] = False,
    root: Root = Path(),
) -> None:
    """List, or remove, what belongs to no data set or collection of params.yaml any more: files, dvc.lock, MLflow."""

    def work() -> None:
        from cnnzoo.stages.orphans import find_orphans, remove_files
        from cnnzoo.tracking.experiments import delete_experiments, experiment_names

        artifacts = Artifacts(root)
        found = find_orphans(artifacts, read_params(artifacts), experiment_names(artifacts))
        typer.echo("\n".join(found.lines()) or "nothing to remove")
        if remove:
            remove_files(artifacts, found)
            delete_experiments(artifacts, found.experiments)
        elif found.lines():
            typer.echo(
                "`cnnzoo prune --remove` removes these; MLflow keeps experiments as deleted, DVC's cache its files"
            )

    _run(work)


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help="Of NumPy, safetensors, torch or Keras; known by content.")],
    activation: Annotated[str | None, typer.Option(help="relu or tanh, for files that do not say.")] = None,
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
        from cnnzoo import scoring
        from cnnzoo.core.errors import CnnzooError

        params = read_params(Artifacts(root))
        name = collection or params.collections[0]
        question = scoring.Question(name, predictor, features, activation, neighbours)
        answer = scoring.answer(Artifacts(root), params, files, question)
        typer.echo(answer.json()) if as_json else answer.print()
        if answer.failed:
            raise CnnzooError("not scored:\n" + "\n".join(f"  - {fault}" for fault in answer.failed))

    _run(work)


@app.command()
def register(
    collection: Annotated[str, typer.Argument(help="Default: the first of params.yaml.")] = "", root: Root = Path()
) -> None:
    """Register a collection's best predictor in MLflow, for `mlflow models serve`: weights in, accuracy out."""

    def work() -> None:
        from cnnzoo import scoring
        from cnnzoo.tracking.location import tracking_uri
        from cnnzoo.tracking.registry import register_scorer
        from cnnzoo.zoo import Collection

        artifacts = Artifacts(root)
        params = read_params(artifacts)
        name = collection or params.collections[0]
        best, scorer = scoring.choose_scorer(artifacts, params, name)
        example = scoring.network_of(Collection.open(artifacts.zoo(name)))
        uri = register_scorer(artifacts, name, scorer, example, asdict(best))
        typer.echo(f"{best.predictor} on {best.features} is now {uri}. Serve it on this machine with")
        store = shlex.quote(tracking_uri(artifacts))
        typer.echo(f"  MLFLOW_TRACKING_URI={store} mlflow models serve --env-manager local -m {uri}")

    _run(work)


@app.command("import-zoo")
def import_zoo(
    source: Annotated[Path, typer.Argument(help="An archive such as mnist.tar.xz, or a folder in that format.")],
    name: Annotated[str | None, typer.Option(help="Of the collection; default: the archive's.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="What its networks were trained on, if the zoo does not say.")
    ] = None,
    root: Root = Path(),
) -> None:
    """Make a published collection one of the project: checked, copied to data/zoo, entered in params.yaml."""

    def work() -> None:
        from cnnzoo import importing

        done = importing.import_zoo(Artifacts(root), source, name, dataset)
        held = f"{counted(done.networks, 'network')} on {done.dataset}, {counted(done.checkpoints, 'checkpoint')}"
        typer.echo(f"{done.folder}: {held}.")
        typer.echo(f"params.yaml now has {done.name} in `imported` and `collections`. Next:")
        typer.echo("  dvc repro                     learn from it, compare and report")
        typer.echo(f"  dvc add {shlex.quote(str(done.folder))}   version it")

    _run(work)


@app.command()
def publish(
    collection: Annotated[str, typer.Argument(help="A collection of params.yaml.")],
    folder: Annotated[Path, typer.Argument(help="Where to write the data set: a new or empty folder.")],
    creator: Annotated[list[str], typer.Option(help="Who made it; may be repeated.")],
    licence: Annotated[str, typer.Option("--license", help="An SPDX identifier.")] = "CC-BY-4.0",
    version: Annotated[str, typer.Option(help="Of the data set.")] = "1.0.0",
    url: Annotated[str, typer.Option(help="Where it will be found.")] = "",
    root: Root = Path(),
) -> None:
    """Write a collection as a data set to share: with Parquet, data card, Croissant metadata, citation, checksums."""

    def work() -> None:
        from cnnzoo import publishing

        artifacts = Artifacts(root)
        read_params(artifacts).definition(collection)
        release = publishing.Release(tuple(creator), licence, version, url)
        done = publishing.publish(artifacts.zoo(collection), collection, folder, release)
        held = f"{counted(done.networks, 'network')}, {counted(done.rows, 'checkpoint')}, {done.size / 1e6:,.1f} MB"
        typer.echo(f"{done.folder}: {held} in {counted(len(done.files), 'file')}. Next, for example:")
        typer.echo(f"  hf upload-large-folder --repo-type dataset NAME/{collection} {shlex.quote(str(done.folder))}")

    _run(work)


def _run(work: Callable[[], None]) -> None:
    code = explain_faults(work)
    if code:
        raise typer.Exit(code)
