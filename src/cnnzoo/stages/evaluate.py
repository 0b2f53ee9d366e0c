"""Stage `evaluate`: every predictor's scores with intervals, on its own collection and on the others."""

from cnnzoo.evaluation.compare import evaluate as score_predictors
from cnnzoo.stages.entry import StageContext, run_stage


def evaluate(context: StageContext) -> None:
    """Write models/evaluation/."""
    score_predictors(context.artifacts, context.params)


if __name__ == "__main__":
    run_stage(evaluate)
