"""Stage `features`: the named inputs of the predictors, for every row of a collection."""

import warnings

from cnnzoo.core.cores import usable_cores
from cnnzoo.features import write_features
from cnnzoo.kernel import unavailable_reason
from cnnzoo.stages.entry import StageContext, run_stage
from cnnzoo.zoo import Collection


def features(context: StageContext) -> None:
    """Write data/features/<collection>/."""
    artifacts, collection = context.artifacts, context.target
    threads = context.params.runtime.threads or usable_cores()
    zoo = Collection.open(artifacts.zoo(collection))
    sets = [*context.params.features.sets, context.params.forecast.features]
    if (reason := unavailable_reason()) is not None and any("probes" in name for name in sets):
        warnings.warn(f"probes are computed by NumPy, to rounding, and not to the byte: {reason}", stacklevel=2)
    write_features(zoo, sets, artifacts.features(collection), threads)


if __name__ == "__main__":
    run_stage(features, target="collection")
