"""Stage `assemble`: a collection in the published format, from its shards."""

from cnnzoo.stages.entry import StageContext, run_stage
from cnnzoo.zoo import assemble as write_collection
from cnnzoo.zoo.recipes import read
from cnnzoo.zoo.shards import read_shards


def assemble(context: StageContext) -> None:
    """Write data/zoo/<collection>/."""
    artifacts, collection = context.artifacts, context.target
    shards, recipes = read_shards(artifacts.checkpoints(collection)), read(artifacts.recipes(collection))
    write_collection(shards, recipes, collection, artifacts.zoo(collection), context.params.seed)


if __name__ == "__main__":
    run_stage(assemble, target="collection")
