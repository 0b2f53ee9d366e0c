"""Stage `recipes`: the hyperparameters of every network of a collection."""

from cnnzoo.stages.entry import StageContext, run_stage
from cnnzoo.zoo.recipes import draw, write


def recipes(context: StageContext) -> None:
    """Write data/recipes/<collection>.csv."""
    write(context.artifacts.recipes(context.target), draw(context.params, context.target))


if __name__ == "__main__":
    run_stage(recipes, target="collection")
