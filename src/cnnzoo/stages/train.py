"""Stage `train`: the networks of a collection, as shards of raw checkpoints, tracked in MLflow."""

from cnnzoo.config import Runtime
from cnnzoo.stages.entry import StageContext, run_stage
from cnnzoo.tracking import ZooTracker, check_writable, sync_zoo
from cnnzoo.training.executor import Executor, LocalExecutor
from cnnzoo.training.train import train_collection
from cnnzoo.zoo import first_rows
from cnnzoo.zoo.recipes import read


def train(context: StageContext) -> None:
    """Fill data/checkpoints/<collection>/; networks that are trained already stay."""
    artifacts, collection = context.artifacts, context.target
    recipes = read(artifacts.recipes(collection))
    executor = _executor(context.params.runtime)
    check_writable(artifacts)
    with ZooTracker(artifacts, collection) as tracker:
        shards = train_collection(artifacts, context.params, collection, recipes, tracker, executor)
    sync_zoo(artifacts, collection, shards, recipes, first_rows(shards, recipes))


def _executor(runtime: Runtime) -> Executor:
    """Return who trains; raises `CnnzooError` if Ray is wanted and not installed."""
    if runtime.executor == "local":
        return LocalExecutor()
    from cnnzoo.cluster.training import RayExecutor

    return RayExecutor()


if __name__ == "__main__":
    run_stage(train, target="collection")
