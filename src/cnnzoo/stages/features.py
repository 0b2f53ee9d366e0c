"""Stage `features`: the named inputs of the predictors, for every row of a collection."""

from cnnzoo.core.cores import usable_cores
from cnnzoo.features import write_features
from cnnzoo.stages.entry import StageContext, run_stage
from cnnzoo.zoo import Collection


def features(context: StageContext) -> None:
    """Write data/features/<collection>/."""
    artifacts, collection = context.artifacts, context.target
    threads = context.params.runtime.threads or usable_cores()
    zoo = Collection.open(artifacts.zoo(collection))
    sets = [*context.params.features.sets, context.params.forecast.features]
    write_features(zoo, sets, artifacts.features(collection), threads)


if __name__ == "__main__":
    run_stage(features, target="collection")
