"""What a hyperparameter is drawn from, and the base of every record of params.yaml."""

import math
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

T = TypeVar("T")


def _distinct(values: list[T]) -> list[T]:
    if not values:
        raise ValueError("must name at least one value")
    if len(set(values)) != len(values):
        raise ValueError(f"names a value twice: {values}")
    return values


Distinct = Annotated[list[T], AfterValidator(_distinct)]
"""One or more values, none repeated."""


class Section(BaseModel):
    """Base of every record: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


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

    @property
    def is_constant(self) -> bool:
        """Whether only one value can be drawn."""
        return self.bounds[0] == self.bounds[1]


class Choice(Section, Generic[T]):
    """A categorical hyperparameter, drawn uniformly."""

    choice: Distinct[T]

    @property
    def is_constant(self) -> bool:
        """Whether only one value can be drawn."""
        return len(self.choice) == 1
