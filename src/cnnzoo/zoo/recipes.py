"""Recipes: the hyperparameters of every network of a collection, drawn independently per network.

Ranges: Unterthiner et al. 2020, arXiv 2002.11448, appendix A. Each hyperparameter of each network has a generator
of its own, so changing one range, or the number of networks, leaves all other draws as they were.

Networks may come in groups: replicates, which share all hyperparameters and differ in the root seed, or pairs, which
share the root seed and all hyperparameters but one. Group g draws what network g of a plain collection draws, and its
first member trains as that network does.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from cnnzoo.config import Choice, Params, Range
from cnnzoo.core import arithmetic, seeds
from cnnzoo.core.atomic import write_text
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.hyperparameters import LABEL_NOISE, SAMPLED, VALUES
from cnnzoo.network.layout import Architecture, Layout, layout_of


@dataclass(frozen=True)
class Recipe:
    """One network: its id in the collection, and its hyperparameters under their published names.

    `random_seed` is the root seed: with `dataset`, the collection and `draws_as` it determines every draw.
    The fields from `activation` to `w_init` stand in the published order of the `config.*` columns. Those of OPTIONAL
    are None, and stand in no file, where a collection does not use them.
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
    group: int | None = None
    """The replicates or the pair that the network belongs to."""
    label_noise: float | None = None
    """The share of its training labels that are wrong."""
    checkpoint_epochs: str | None = None
    """The epochs that are kept, ascending, with blanks between them, if they are not the published ones."""

    @property
    def draws_as(self) -> int:
        """The number that keys its draws: the network's, or its group's."""
        return self.network if self.group is None else self.group

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The epochs at which the network is kept, ascending."""
        if self.checkpoint_epochs is not None:
            return tuple(int(epoch) for epoch in self.checkpoint_epochs.split())
        return checkpoint_epochs(self.epochs, self.epochs_between_checkpoints)

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
        return {f"config.{name}": value for name, value in self.values().items() if name != "network"}

    def values(self) -> dict[str, Any]:
        """Return the fields by name, without those of OPTIONAL that are not in use."""
        return {name: value for name, value in asdict(self).items() if name not in OPTIONAL or value is not None}


OPTIONAL = ("group", "label_noise", "checkpoint_epochs")
COLUMNS = tuple(field.name for field in fields(Recipe) if field.name not in OPTIONAL)

KINDS: dict[str, Any] = {name: (get_args(kind) or (kind,))[0] for name, kind in get_type_hints(Recipe).items()}
"""The type of each field in use."""


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

    group, member = divmod(network, population.group_size)
    varied = population.pairs[group % len(population.pairs)] if population.pairs and member else None

    def sample(name: str) -> Any:
        distribution = params.distribution(collection, name)
        value = quantile(distribution, _uniform(params, f"recipe.{name}", collection, group))
        if name != varied:
            return value
        return quantile(_without(distribution, value), _uniform(params, f"recipe.{name}.pair", collection, group))

    return Recipe(
        network=network,
        b_init="zeros",
        dataset=population.dataset,
        dnn_architecture="cnn",
        epochs=population.epochs or ranges.epochs,
        epochs_between_checkpoints=ranges.epochs_between_checkpoints,
        num_layers=population.num_layers,
        num_units=population.num_units,
        random_seed=_replicate_seed(params.seed, member) if population.replicates else params.seed,
        group=group if population.group_size > 1 else None,
        label_noise=None if population.label_noise is None else sample(LABEL_NOISE),
        checkpoint_epochs=_checkpoint_text(population.checkpoint_epochs, population.epochs or ranges.epochs),
        **{name: sample(name) for name in SAMPLED},
    )


def _uniform(params: Params, purpose: str, collection: str, group: int) -> float:
    return seeds.generator(params.seed, purpose, collection, group).random()


def _replicate_seed(root: int, replicate: int) -> int:
    """Return the root seed of one replicate of every group; the first has the collection's own."""
    return seeds.key_words(root, "replicate", replicate)[0] if replicate else root


def _without(distribution: Range | Choice[Any], value: Any) -> Range | Choice[Any]:
    """Return a distribution without a value of its choice, so that the networks of a pair differ."""
    if distribution.choice is None:
        return distribution
    return distribution.model_copy(update={"choice": [other for other in distribution.choice if other != value]})


def _checkpoint_text(kept: Sequence[int] | None, last: int) -> str | None:
    return None if kept is None else " ".join(map(str, sorted({*kept, last})))


def quantile(distribution: Range | Choice[Any], probability: float) -> Any:
    """Return the value below which a share `probability` in [0, 1) of the distribution's draws lies."""
    if distribution.choice is not None:
        return distribution.choice[int(probability * len(distribution.choice))]
    if distribution.log_uniform is not None:
        low, high = map(_log, distribution.log_uniform)
        return float(arithmetic.exp(low + probability * (high - low)))
    low, high = distribution.bounds
    return low + probability * (high - low)


@lru_cache  # the bounds are the same for every network, and a logarithm of ours takes as long as a draw
def _log(bound: float) -> float:
    return float(arithmetic.log(bound))


def write(path: Path, recipes: Sequence[Recipe]) -> None:
    """Write recipes as CSV; floats keep all their digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(recipes[0].values()) if recipes else COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(recipe.values() for recipe in recipes)
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
    recipes: list[Recipe] = []
    in_use = [name for name in OPTIONAL if rows and name in rows[0]]
    for number, row in enumerate(rows, start=2):
        try:
            recipe = Recipe(**{name: KINDS[name](row[name]) for name in (*COLUMNS, *in_use)})
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
