"""Stage `report`: figures, small tables and one HTML page over all collections."""

from cnnzoo.report import write_report
from cnnzoo.stages.entry import StageContext, run_stage


def report(context: StageContext) -> None:
    """Write models/report/."""
    write_report(context.artifacts, context.params)


if __name__ == "__main__":
    run_stage(report)
