"""params.yaml as a strict, frozen record, checked as a whole before any work.

Only this module reads and changes params.yaml: `load` and `add_imported`.
"""

import difflib
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from cnnzoo.atomic import write_text
from cnnzoo.errors import CnnzooError
from cnnzoo.feature_names import PUBLISHED, columns_of, parse
from cnnzoo.layout import Architecture, layout_of

Activation = Literal["relu", "tanh"]
Optimizer = Literal["sgd", "adam", "rmsprop"]
Initializer = Literal["he_normal", "glorot_normal", "orthogonal", "RandomNormal", "TruncatedNormal"]
Dataset = Literal["mnist5k", "mnist", "fashion_mnist", "cifar10", "svhn_cropped"]
EngineName = Literal["auto", "native", "batched", "reference"]
PredictorName = Literal["linear", "catboost", "dnn", "nfn", "stack"]
CollectionName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]

PositiveInt = Annotated[int, Field(ge=1)]

T = TypeVar("T")


def _distinct(values: list[T]) -> list[T]:
    if not values:
        raise ValueError("must name at least one value")
    if len(set(values)) != len(values):
        raise ValueError(f"names a value twice: {values}")
    return values


Distinct = Annotated[list[T], AfterValidator(_distinct)]
"""One value or more, none twice."""


class Section(BaseModel):
    """Base of every record: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Networks(Section):
    """What the networks of a collection are: trained on which data set, of which shape."""

    dataset: Dataset
    num_units: Annotated[int, Field(ge=1, le=512)] = 16
    num_layers: Annotated[int, Field(ge=1, le=4)] = 3

    @property
    def architecture(self) -> Architecture:
        """The network family of its networks."""
        return Architecture(num_units=self.num_units, num_layers=self.num_layers)


class Imported(Networks):
    """A collection that others have made, put below data/zoo by `cnnzoo import-zoo`."""


class Population(Networks):
    """A collection to make: how many networks, and how they are trained."""

    networks: Annotated[int, Field(ge=2, le=1_000_000)]
    minibatch: Annotated[int, Field(ge=1, le=65_536)]
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How long its networks train, if not as long as `recipes.epochs` says."""


class Images(Section):
    """Where data sets come from."""

    mirrors: list[str]


class Range(Section):
    """A distribution of one real hyperparameter: `uniform` or `log_uniform` between two bounds, or a `choice`."""

    uniform: list[float] | None = None
    log_uniform: list[float] | None = None
    choice: Distinct[float] | None = None

    @model_validator(mode="after")
    def _is_one_distribution(self) -> "Range":
        given = [name for name in ("uniform", "log_uniform", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `uniform`, `log_uniform`, `choice`")
        values = getattr(self, given[0])
        if not all(math.isfinite(value) for value in values):
            raise ValueError("all values must be finite numbers")
        if given == ["choice"]:
            return self
        if len(values) != 2 or values[0] > values[1]:
            raise ValueError(f"`{given[0]}` takes [low, high] with low <= high, got {values}")
        if given == ["log_uniform"] and values[0] <= 0:
            raise ValueError(f"`log_uniform` takes positive bounds, got {values}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value that can be drawn."""
        values = self.uniform or self.log_uniform or self.choice or []
        return min(values), max(values)


class Choice(Section, Generic[T]):
    """A categorical hyperparameter, drawn uniformly."""

    choice: Distinct[T]


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


class Features(Section):
    """The named inputs of the predictors. `published` among the sets stands for the 14 of the published study."""

    sets: Distinct[str]

    @field_validator("sets", mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        if not isinstance(value, list) or "published" not in value:
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


class Forecast(Section):
    """Final accuracies predicted from early checkpoints."""

    predictor: PredictorName
    features: str


class Evaluate(Section):
    """Scores on the held-out half."""

    bootstrap: Annotated[int, Field(ge=1, le=1_000_000)]
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]


class Runtime(Section):
    """What changes speed and comfort, never results."""

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
    def _collections_are_defined(self) -> "Params":
        twice = sorted(self.populations.keys() & self.imported)
        if twice:
            raise ValueError(f"`{twice[0]}` stands in `populations` and in `imported`; a collection is one of the two")
        known = [*self.populations, *self.imported]
        for name in self.collections:
            if name not in known:
                raise ValueError(
                    f"`collections` names `{name}`{_nearest(name, known)}. `populations` and `imported` define: "
                    f"{', '.join(known) or 'nothing'}."
                )
        return self

    @model_validator(mode="after")
    def _networks_have_the_layers_of_the_feature_sets(self) -> "Params":
        named = [("features.sets", name) for name in self.features.sets]
        for key, name in (*named, ("forecast.features", self.forecast.features)):
            try:
                for part in parse(name):
                    for collection in self.collections:
                        columns_of(part, layout_of(self.definition(collection).architecture))
            except CnnzooError as error:
                raise ValueError(f"`{key}`: {error}") from error
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
                        f"`search.only.{predictor}` names `{name}`{_nearest(name, self.features.sets)}. "
                        f"`features.sets` has: {', '.join(self.features.sets)}."
                    )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as plain values: the classes of distributions have no name to be found by."""
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

    def definition(self, collection: str) -> Population | Imported:
        """Return what a collection is, made here or imported; raises `CnnzooError` for an unknown one."""
        found = self.imported.get(collection)
        return self.population(collection) if found is None else found

    def population(self, collection: str) -> Population:
        """Return the definition of a collection; raises `CnnzooError` that names the nearest known one."""
        if collection not in self.populations:
            known = ", ".join(self.populations)
            raise CnnzooError(
                f"params.yaml: no collection `{collection}` in `populations`{_nearest(collection, self.populations)}. "
                f"Defined: {known}."
            )
        return self.populations[collection]


def load(path: Path) -> Params:
    """Read and check params.yaml.

    Raises `CnnzooError` that lists every fault: the key, the value got, what is allowed, the nearest valid key.
    """
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CnnzooError(f"{path}: cannot be read ({error.strerror}); run in the root of the project") from error
    except (YAMLError, ValueError) as error:  # ValueError: text that is not UTF-8, dates that do not exist
        raise CnnzooError(f"{path}{_yaml_fault(error)}") from error
    if not isinstance(data, dict):
        raise CnnzooError(f"{path}: expected sections such as `train:`, got {type(data).__name__}")
    return validate(data, str(path))


def _yaml_fault(error: Exception) -> str:
    """Return line and fault alone: what the library says around them is about Python, not about the file."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f", line {error.problem_mark.line + 1}: not valid YAML: {error.problem}"
    return f": not valid YAML: {getattr(error, 'reason', None) or error}"


def validate(data: dict[str, Any], origin: str) -> Params:
    """Check parameters from anywhere; raises `CnnzooError` that lists every fault and names `origin`."""
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        faults = "\n".join(f"  - {_explain(fault)}" for fault in error.errors())
        raise CnnzooError(f"{origin} is not valid:\n{faults}") from error


def _explain(fault: Any) -> str:
    location = ".".join(str(part) for part in fault["loc"] if part != "[key]")  # pydantic's mark of a dict's key
    if fault["type"] == "extra_forbidden":
        known = _known_keys(fault["loc"][:-1])
        return f"`{location}`: unknown key{_nearest(fault['loc'][-1], known)}. Allowed here: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"`{location}`: missing"
    message = fault["msg"].removeprefix("Value error, ")
    got = fault.get("input")
    shown = f", got {got!r}" if isinstance(got, str | int | float | bool | type(None)) else ""
    return f"`{location}`: {message}{shown}" if location else message


def _known_keys(location: Iterable[str | int]) -> list[str]:
    """Return the keys allowed at a place in params.yaml."""
    model: Any = Params
    for part in location:
        annotation = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)[1]
        model = annotation
    return list(model.model_fields)


def _nearest(word: object, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def add_imported(path: Path, name: str, entry: Imported) -> None:
    """Define an imported collection in params.yaml, and list it in `collections`; comments and all else stay.

    Raises `CnnzooError` if the result would not be valid; the file is then as before.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # lines stay as long as they are
    data = yaml.load(path.read_text(encoding="utf-8"))
    data["imported"][name] = CommentedMap(entry.model_dump(exclude_defaults=True))
    data["imported"][name].fa.set_flow_style()  # one line, as the populations have
    if name not in data["collections"]:
        data["collections"].append(name)
    text = io.StringIO()
    yaml.dump(data, text)
    validate(YAML(typ="safe").load(text.getvalue()), f"{path} with `{name}` in `imported`")
    write_text(path, text.getvalue())
