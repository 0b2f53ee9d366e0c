"""The parameters of the project: `file.py` reads and changes params.yaml, `params.py` holds the records."""

from cnnzoo.config.distributions import Choice, Distinct, Range, Section
from cnnzoo.config.file import add_imported, load, validate
from cnnzoo.config.params import (
    PUBLISHED,
    CollectionName,
    Dataset,
    EngineName,
    Evaluate,
    Features,
    Imported,
    Params,
    PredictorName,
    Runtime,
    Search,
)

__all__ = [
    "PUBLISHED",
    "Choice",
    "CollectionName",
    "Dataset",
    "Distinct",
    "EngineName",
    "Evaluate",
    "Features",
    "Imported",
    "Params",
    "PredictorName",
    "Range",
    "Runtime",
    "Search",
    "Section",
    "add_imported",
    "load",
    "validate",
]
