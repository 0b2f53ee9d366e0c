"""The parameters as strict, frozen records: their types, their bounds, and what must agree between them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from cnnzoo.config import controlled
from cnnzoo.config.distributions import Choice, Distinct, Range, Section
from cnnzoo.core.errors import CnnzooError, did_you_mean
from cnnzoo.network.hyperparameters import LABEL_NOISE, Activation, Initializer, Optimizer
from cnnzoo.network.layout import Architecture

Dataset = Literal["mnist5k", "mnist5k_32", "mnist", "fashion_mnist", "cifar10", "svhn_cropped"]
EngineName = Literal["auto", "native", "cuda", "batched", "reference"]
CollectionName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]

PUBLISHED = (
    "weights",
    "weights.0",
    "weights.1",
    "weights.2",
    "weights.3",
    "hyper",
    "hyper.learning_rate",
    "hyper+weights",
    "wstats-glob",
    "wstats-layers:3-qts:0,25,50,75,100",
    "wstats-layers:0,3-qts:0,25,50,75,100",
    "wstats-layers:0,1,2,3-qts:0,25,50,75,100",
    "wnorm-layers:0,1,2,3-l1",
    "wnorm-layers:0,1,2,3-l2",
)
"""The feature sets of the published study, which `published` in `features.sets` stands for."""

SMALLEST_TRAINING_HALF = 12
"""Networks that a search needs at least to train on."""

PositiveInt = Annotated[int, Field(ge=1)]


def _no_former_name(name: Any) -> Any:
    if isinstance(name, str) and name in FORMER_NAMES:
        raise ValueError(f"`{name}` is now called `{FORMER_NAMES[name]}`")
    return name


FORMER_NAMES = {"nfn": "learned_probes"}
"""Former names of predictors, used in older params.yaml files."""
PredictorName = Annotated[
    Literal["linear", "catboost", "dnn", "learned_probes", "stack"], BeforeValidator(_no_former_name)
]


class Networks(Section):
    """What the networks of a collection are: the data set they are trained on, and their shape."""

    dataset: Dataset
    num_units: Annotated[int, Field(ge=1, le=512)] = 16
    num_layers: Annotated[int, Field(ge=1, le=4)] = 3

    @property
    def architecture(self) -> Architecture:
        """The network family of its networks."""
        return Architecture(num_units=self.num_units, num_layers=self.num_layers)


class Imported(Networks):
    """A collection made by others, put into data/zoo by `cnnzoo import-zoo`."""


class Population(Networks):
    """A collection to make: how many networks, how they are trained, and which of them belong together."""

    networks: Annotated[int, Field(ge=2, le=1_000_000)]
    minibatch: Annotated[int, Field(ge=1, le=65_536)]
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How many epochs its networks train for, if not `recipes.epochs`."""
    replicates: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """So many networks in a row share their hyperparameters and differ in the seed."""
    pairs: Distinct[str] | None = None
    """Networks come in pairs with the same seed that differ in one of these hyperparameters, in turn."""
    label_noise: Range | None = None
    """The share of training labels that are replaced by wrong ones."""
    checkpoint_epochs: list[int] | None = None
    """The epochs that are kept, if not those of `recipes.epochs_between_checkpoints`; the last one always is."""

    @field_validator("pairs", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_well_controlled(self) -> "Population":
        controlled.check_groups(self.networks, self.replicates, self.pairs)
        if self.pairs is not None:
            controlled.check_pairs(self.pairs, self.label_noise is not None)
        if self.label_noise is not None:
            controlled.check_label_noise(*self.label_noise.bounds)
        if self.checkpoint_epochs is not None:
            controlled.check_checkpoint_epochs(self.checkpoint_epochs)
        return self

    @property
    def group_size(self) -> int:
        """Networks that belong together: replicates, a pair, or one."""
        return self.replicates or (1 if self.pairs is None else 2)


class Images(Section):
    """Where data sets come from."""

    mirrors: list[str]


class Recipes(Section):
    """What is drawn for each network, and how long all of them train."""

    learning_rate: Range
    l2reg: Range
    init_std: Range
    dropout: Range
    train_fraction: Choice[float]
    activation: Choice[Activation]
    optimizer: Choice[Optimizer]
    w_init: Choice[Initializer]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    epochs_between_checkpoints: PositiveInt

    @model_validator(mode="after")
    def _has_sane_bounds(self) -> "Recipes":
        bounds = {name: getattr(self, name).bounds for name in ("learning_rate", "l2reg", "init_std", "dropout")}
        for name, allowed, fits in (
            ("learning_rate", "be greater than 0", bounds["learning_rate"][0] > 0),
            ("l2reg", "be 0 or greater", bounds["l2reg"][0] >= 0),
            ("init_std", "be greater than 0", bounds["init_std"][0] > 0),
            ("dropout", "lie in [0, 0.99]", bounds["dropout"][0] >= 0 and bounds["dropout"][1] <= 0.99),
        ):
            if not fits:
                least, most = bounds[name]
                raise ValueError(f"`{name}` must {allowed}, got values from {least} to {most}")
        if not all(0 < fraction <= 1 for fraction in self.train_fraction.choice):
            raise ValueError(f"`train_fraction` must lie in (0, 1], got {self.train_fraction.choice}")
        return self


class Train(Section):
    """How the networks are trained."""

    engine: EngineName
    cohort_size: Annotated[int, Field(ge=1, le=100_000)]


CUT_AT_COMMAS = (
    "a name was split at its commas; put it in quotes, and on a command line quote the whole value too: "
    """-S 'features.sets=[hyper,"wstats-layers:0,3-qts:0,25"]'"""
)


class Features(Section):
    """The named inputs of the predictors. `published` among the sets stands for the 14 of the published study."""

    sets: Distinct[str]

    @field_validator("sets", mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if any(not isinstance(name, str) or name[:1].isdigit() for name in value):
            raise ValueError(CUT_AT_COMMAS)
        if "published" not in value:
            return value
        if value.count("published") > 1:
            raise ValueError("`published` stands twice")
        others = [name for name in value if name != "published" and name not in PUBLISHED]
        return [*PUBLISHED, *others]


class Search(Section):
    """Tuning of the predictors."""

    predictors: Distinct[PredictorName]
    only: dict[PredictorName, Distinct[str]]
    """Predictors that are tuned on some of the feature sets only; the others are tuned on all."""
    trials: PositiveInt
    folds: Annotated[int, Field(ge=2, le=50)]
    max_trees: PositiveInt
    max_epochs: PositiveInt

    @property
    def least_training_networks(self) -> int:
        """How many networks the training half needs; with fewer, folds and early stopping mean nothing."""
        return max(SMALLEST_TRAINING_HALF, 2 * self.folds)


class Forecast(Section):
    """Final accuracies predicted from early checkpoints."""

    predictor: PredictorName
    features: str


class Evaluate(Section):
    """Scores on the held-out half."""

    bootstrap: Annotated[int, Field(ge=1, le=1_000_000)]
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]


class Runtime(Section):
    """Settings that affect speed and convenience, never results."""

    executor: Literal["local", "ray"] = "local"
    threads: Annotated[int, Field(ge=0, le=4096)]
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    resume_interval_s: Annotated[float, Field(ge=0.0)]


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    datasets: Distinct[Dataset]
    populations: dict[CollectionName, Population]
    imported: dict[CollectionName, Imported]
    collections: Distinct[CollectionName]
    """Those of `populations` and `imported` that predictors learn from, in the order of the report."""
    images: Images
    recipes: Recipes
    train: Train
    features: Features
    search: Search
    forecast: Forecast
    evaluate: Evaluate
    runtime: Runtime

    @model_validator(mode="after")
    def _populations_have_their_datasets(self) -> "Params":
        for name, population in self.populations.items():
            if population.dataset not in self.datasets:
                raise ValueError(
                    f"`populations.{name}.dataset` is {population.dataset}, but `datasets` lists only {self.datasets}"
                )
        return self

    @model_validator(mode="after")
    def _populations_fit_the_recipes(self) -> "Params":
        for name, population in self.populations.items():
            epochs = population.epochs or self.recipes.epochs
            if population.checkpoint_epochs and population.checkpoint_epochs[-1] > epochs:
                raise ValueError(
                    f"`populations.{name}.checkpoint_epochs` ends with {population.checkpoint_epochs[-1]}, "
                    f"but its networks train for {epochs} epochs"
                )
            for varied in population.pairs or ():
                if self.distribution(name, varied).is_constant:
                    raise ValueError(
                        f"`populations.{name}.pairs` names `{varied}`, which can have one value only: "
                        f"give `{varied}` a range or a choice of several"
                    )
        return self

    @model_validator(mode="after")
    def _collections_are_defined(self) -> "Params":
        twice = sorted(self.populations.keys() & self.imported)
        if twice:
            raise ValueError(f"`{twice[0]}` stands in `populations` and in `imported`; a collection is one of the two")
        known = [*self.populations, *self.imported]
        for name in self.collections:
            if name not in known:
                raise ValueError(
                    f"`collections` names `{name}`{did_you_mean(name, known)}. `populations` and `imported` define: "
                    f"{', '.join(known) or 'nothing'}."
                )
        return self

    @model_validator(mode="after")
    def _limited_predictors_and_their_sets_are_there(self) -> "Params":
        for predictor, sets in self.search.only.items():
            if predictor not in self.search.predictors:
                raise ValueError(
                    f"`search.only` names `{predictor}`, but `search.predictors` lists only {self.search.predictors}"
                )
            for name in sets:
                if name not in self.features.sets:
                    raise ValueError(
                        f"`search.only.{predictor}` names `{name}`{did_you_mean(name, self.features.sets)}. "
                        f"`features.sets` has: {', '.join(self.features.sets)}."
                    )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain values: the classes of the distributions cannot be found by name."""
        return Params.model_validate, (self.model_dump(),)

    @property
    def searches(self) -> tuple[tuple[PredictorName, str], ...]:
        """The searches of a collection: predictor and feature set, in the order of the report."""
        return tuple(
            (predictor, features)
            for features in self.features.sets
            for predictor in self.search.predictors
            if features in self.search.only.get(predictor, self.features.sets)
        )

    @property
    def search_budget(self) -> dict[str, object]:
        """What distinguishes one search of a predictor on a feature set from another, beside its data."""
        return {"seed": self.seed, **self.search.model_dump(exclude={"predictors", "only"})}

    def distribution(self, collection: str, hyperparameter: str) -> Range | Choice[Any]:
        """Return what a hyperparameter of a collection's networks is drawn from; `label_noise` must be in use."""
        section = self.populations[collection] if hyperparameter == LABEL_NOISE else self.recipes
        found: Range | Choice[Any] = getattr(section, hyperparameter)
        return found

    def definition(self, collection: str) -> Population | Imported:
        """Return what a collection is, made here or imported; raises `CnnzooError` for an unknown one."""
        found = self.imported.get(collection)
        return self.population(collection) if found is None else found

    def population(self, collection: str) -> Population:
        """Return the definition of a collection; raises `CnnzooError` that names the nearest known one."""
        if collection not in self.populations:
            hint, known = did_you_mean(collection, self.populations), ", ".join(self.populations)
            raise CnnzooError(f"params.yaml: no collection `{collection}` in `populations`{hint}. Defined: {known}.")
        return self.populations[collection]
