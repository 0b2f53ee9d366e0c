"""The only module that knows paths: where every file of a project is, below one root."""

from dataclasses import dataclass
from pathlib import Path


def slug(name: str) -> str:
    """Return a feature set's published name as a folder name: `wnorm-layers:0,1-l2` -> `wnorm-layers_0.1-l2`."""
    return name.replace(":", "_").replace(",", ".")


@dataclass(frozen=True)
class Artifacts:
    """The files of one project. Nothing is created by asking for a path."""

    root: Path = Path()

    @property
    def params(self) -> Path:
        """The parameters of the whole pipeline."""
        return self.root / "params.yaml"

    def images(self, dataset: str) -> Path:
        """One data set as uint8 arrays."""
        return self.root / "data" / "images" / f"{dataset}.npz"

    @property
    def downloads(self) -> Path:
        """The files fetched from outside, kept so that a rerun does not fetch them again."""
        return self.root / "data" / "downloads"

    def recipes(self, collection: str) -> Path:
        """The hyperparameters of every network, one row each."""
        return self.root / "data" / "recipes" / f"{collection}.csv"

    def checkpoints(self, collection: str) -> Path:
        """The folder of cohort shards: raw checkpoints."""
        return self.root / "data" / "checkpoints" / collection

    def unfinished(self, collection: str) -> Path:
        """The folder of resume points of cohorts in training; not versioned."""
        return self.root / "data" / "unfinished" / collection

    def parts(self, collection: str) -> Path:
        """The folder of cohorts that a cluster has trained in part; not versioned."""
        return self.unfinished(collection) / "parts"

    def studies(self, collection: str) -> Path:
        """The folder of search journals, from which a search resumes; not versioned."""
        return self.unfinished(collection) / "studies"

    def zoo(self, collection: str) -> Path:
        """The collection in the published format."""
        return self.root / "data" / "zoo" / collection

    def features(self, collection: str) -> Path:
        """The folder of feature sets."""
        return self.root / "data" / "features" / collection

    def models(self, collection: str) -> Path:
        """The folder of a collection's tuned predictors."""
        return self.root / "models" / "predictors" / collection

    def predictor(self, collection: str, predictor: str, features: str) -> Path:
        """The folder of one tuned predictor on one feature set."""
        return self.models(collection) / predictor / slug(features)

    def forecast(self, collection: str) -> Path:
        """The folder of a collection's forecasts from early checkpoints."""
        return self.root / "models" / "forecast" / collection

    @property
    def evaluation(self) -> Path:
        """The folder of the tables that compare predictors over all collections."""
        return self.root / "models" / "evaluation"

    @property
    def report(self) -> Path:
        """The folder of the report: figures, tables, one HTML page."""
        return self.root / "models" / "report"

    @property
    def mlruns(self) -> Path:
        """The folder of MLflow's database and artifacts."""
        return self.root / "mlruns"
