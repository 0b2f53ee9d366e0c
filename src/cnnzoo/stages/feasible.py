"""What params.yaml alone decides is refused before any work, not after hours of training."""

from cnnzoo.config import Params
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images.registry import DATASETS
from cnnzoo.training.minibatches import Schedule


def check_feasible(params: Params, origin: str) -> None:
    """Check that every collection can be trained on its images and divided for the search.

    Raises `CnnzooError` that names `origin` and everything that is wrong: a minibatch larger than the smallest training
    subset, more layers than the images have room for, fewer networks than the folds need.
    """
    problems = [
        f"`populations.{name}`: {problem}" for name in params.populations for problem in _problems(params, name)
    ]
    if problems:
        raise CnnzooError("\n".join([f"{origin} is not valid:", *(f"  - {problem}" for problem in problems)]))


def _problems(params: Params, name: str) -> list[str]:
    population, extent = params.populations[name], DATASETS[params.populations[name].dataset].extent
    found = []
    try:
        Schedule(params.seed, name, min(params.recipes.train_fraction.choice), extent.train, population.minibatch)
        population.architecture.feature_sizes(extent.side)
    except CnnzooError as error:
        found.append(str(error))
    least = params.search.least_training_networks
    if name in params.collections and population.networks // 2 < least:
        found.append(
            f"half of {population.networks} networks train the predictors, at least {least} are needed for "
            f"`search.folds={params.search.folds}`. Raise `networks` to {2 * least} or more, or leave `{name}` out of "
            "`collections`."
        )
    if name in params.collections and population.group_size > 1:
        groups = population.networks // population.group_size
        if groups // 2 < params.search.folds:
            found.append(
                f"half of {groups} groups train the predictors, and no fold divides one: at least "
                f"{2 * params.search.folds} groups are needed for `search.folds={params.search.folds}`. Raise "
                f"`networks` to {2 * params.search.folds * population.group_size} or more, or leave "
                f"`{name}` out of `collections`."
            )
    return found
