"""Recipes: the hyperparameters of every network of a collection, drawn independently per network.

Ranges: Unterthiner et al. 2020, arXiv 2002.11448, appendix A. Each hyperparameter of each network has a generator
of its own, so changing one range, or the number of networks, leaves all other draws as they were.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from cnnzoo.config import Choice, Params, Range
from cnnzoo.core import arithmetic, seeds
from cnnzoo.core.atomic import write_text
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.hyperparameters import SAMPLED, VALUES
from cnnzoo.network.layout import Architecture, Layout, layout_of


@dataclass(frozen=True)
class Recipe:
    """One network: its id in the collection, and its hyperparameters under their published names.

    `random_seed` is the root seed: with `dataset`, the collection and `network` it determines every draw.
    The fields after `network` stand in the published order of the `config.*` columns.
    """

    network: int
    activation: str
    b_init: str
    dataset: str
    dnn_architecture: str
    dropout: float
    epochs: int
    epochs_between_checkpoints: int
    init_std: float
    l2reg: float
    learning_rate: float
    num_layers: int
    num_units: int
    optimizer: str
    random_seed: int
    train_fraction: float
    w_init: str

    @property
    def architecture(self) -> Architecture:
        """The network family this network belongs to."""
        return Architecture(num_units=self.num_units, num_layers=self.num_layers)

    @property
    def layout(self) -> Layout:
        """Where each parameter lies in a row of weights."""
        return layout_of(self.architecture)

    def config(self) -> dict[str, Any]:
        """Return the hyperparameters by published column name (`config.activation` ...), in published order."""
        return {f"config.{name}": value for name, value in asdict(self).items() if name != "network"}


COLUMNS = tuple(field.name for field in fields(Recipe))


def checkpoint_epochs(epochs: int, epochs_between_checkpoints: int) -> tuple[int, ...]:
    """Return the epochs at which a network is kept: 0 1 2 3, every `epochs_between_checkpoints`, and the last."""
    regular = range(0, epochs + 1, epochs_between_checkpoints)
    return tuple(sorted({epoch for epoch in (0, 1, 2, 3, *regular, epochs) if epoch <= epochs}))


def draw(params: Params, collection: str) -> list[Recipe]:
    """Draw the recipes of all networks of a collection; raises `CnnzooError` for an unknown collection."""
    population = params.population(collection)
    return [_draw_one(params, collection, network) for network in range(population.networks)]


def _draw_one(params: Params, collection: str, network: int) -> Recipe:
    population, ranges = params.population(collection), params.recipes

    def sample(name: str) -> Any:
        uniform = seeds.generator(params.seed, f"recipe.{name}", collection, network).random()
        return quantile(getattr(ranges, name), uniform)

    return Recipe(
        network=network,
        b_init="zeros",
        dataset=population.dataset,
        dnn_architecture="cnn",
        epochs=population.epochs or ranges.epochs,
        epochs_between_checkpoints=ranges.epochs_between_checkpoints,
        num_layers=population.num_layers,
        num_units=population.num_units,
        random_seed=params.seed,
        **{name: sample(name) for name in SAMPLED},
    )


def quantile(distribution: Range | Choice[Any], probability: float) -> Any:
    """Return the value below which a share `probability` in [0, 1) of the distribution's draws lies."""
    if distribution.choice is not None:
        return distribution.choice[int(probability * len(distribution.choice))]
    if distribution.log_uniform is not None:
        low, high = (float(arithmetic.log(bound)) for bound in distribution.log_uniform)
        return arithmetic.exp(low + probability * (high - low))
    low, high = distribution.bounds
    return low + probability * (high - low)


def write(path: Path, recipes: Sequence[Recipe]) -> None:
    """Write recipes as CSV; floats keep all their digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(recipe) for recipe in recipes)
    write_text(path, text.getvalue())


def read(path: Path) -> list[Recipe]:
    """Read what `write` wrote; raises `CnnzooError` that names the file and the wrong line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; make it with `dvc repro recipes`") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CnnzooError(f"{path}: cannot be read ({error}); delete it and run `dvc repro recipes` again") from error
    recipes, kinds = [], get_type_hints(Recipe)
    for number, row in enumerate(rows, start=2):
        try:
            recipe = Recipe(**{name: kind(row[name]) for name, kind in kinds.items()})
            _check_categories(recipe)
            recipes.append(recipe)
        except (KeyError, TypeError, ValueError) as error:
            raise CnnzooError(
                f"{path}, line {number}: not a recipe ({error!r}); expected {','.join(COLUMNS)}"
            ) from error
    if not recipes:
        raise CnnzooError(f"{path}: holds no recipes; run `dvc repro recipes` again")
    return recipes


def _check_categories(recipe: Recipe) -> None:
    for name, known in VALUES.items():
        if getattr(recipe, name) not in known:
            raise ValueError(f"`{name}` is {getattr(recipe, name)}, allowed: {', '.join(known)}")
