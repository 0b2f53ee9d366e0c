"""Stage `images`: one data set, parsed from its published files, as uint8 arrays."""

from cnnzoo.images import prepare
from cnnzoo.stages.entry import StageContext, run_stage


def images(context: StageContext) -> None:
    """Write data/images/<dataset>.npz."""
    dataset = prepare(context.target, context.params.images.mirrors, context.artifacts.downloads)
    dataset.save(context.artifacts.images(context.target))


if __name__ == "__main__":
    run_stage(images, target="dataset")
