"""Stage `search`: predictors of a collection's accuracies, tuned, scored on networks they never saw."""

from cnnzoo.search.runs import search as tune_predictors
from cnnzoo.stages.entry import StageContext, run_stage
from cnnzoo.tracking.searches import search_run


def search(context: StageContext) -> None:
    """Write models/predictors/<collection>/<predictor>/<features>/."""
    tune_predictors(context.artifacts, context.params, context.target, search_run)


if __name__ == "__main__":
    run_stage(search, target="collection")
