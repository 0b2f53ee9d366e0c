"""Stage `forecast`: final accuracies predicted from early checkpoints, and how early bad runs can be stopped."""

from cnnzoo.evaluation.forecast import forecast as predict_final_accuracies
from cnnzoo.stages.entry import StageContext, run_stage


def forecast(context: StageContext) -> None:
    """Write models/forecast/<collection>/."""
    predict_final_accuracies(context.artifacts, context.params, context.target)


if __name__ == "__main__":
    run_stage(forecast, target="collection")
