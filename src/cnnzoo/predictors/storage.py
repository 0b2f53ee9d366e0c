"""Fitted predictors on disk, without pickle: JSON for settings, safetensors for arrays, CatBoost's own format.

The JSON file holds the SHA-256 of all files, which are checked before a native library sees them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cnnzoo.core.atomic import atomic_folder
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.sealed import read_seal, write_seal
from cnnzoo.predictors.base import Predictor

FORMAT = "cnnzoo-predictor-2"
SETTINGS = "predictor.json"
ARRAYS = "arrays.safetensors"


def save_predictor(name: str, predictor: Predictor, folder: Path) -> None:
    """Write a fitted predictor to `folder`, which appears whole or not at all; `name` is its registered name."""
    with atomic_folder(folder) as new:
        values, arrays = predictor._state(new)
        content = {
            "format": FORMAT,
            "predictor": name,
            "settings": predictor.get_params(),
            "features": _feature_names(predictor),
            "n_features": predictor.n_features_in_,
            "categories": {str(column): list(known) for column, known in predictor.categories_.items()},
            "target_range": list(predictor.target_range_),
            "learned": values,
        }
        if arrays:
            save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, new / ARRAYS)
        write_seal(new / SETTINGS, content, default=_plain)


def load_predictor(registry: dict[str, type[Predictor]], folder: Path) -> Predictor:
    """Read what `save_predictor` wrote; its predictions are the same bit for bit.

    Raises `CnnzooError` that names the file if it is missing, damaged or of another format.
    """
    path = folder / SETTINGS
    try:
        content = read_seal(path)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        predictor = registry[content["predictor"]](**content["settings"])
        predictor.n_features_in_ = content["n_features"]
        if content["features"] is not None:
            predictor.feature_names_in_ = np.array(content["features"], dtype=object)
        predictor.categories_ = {int(column): tuple(known) for column, known in content["categories"].items()}
        low, high = content["target_range"]
        predictor.target_range_ = (low, high)
        arrays = load_file(folder / ARRAYS) if (folder / ARRAYS).exists() else {}
        predictor._restore(folder, content["learned"], arrays)
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; make it with `dvc repro search`") from error
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, _catboost_error()) as error:
        raise CnnzooError(f"{folder}: not a whole predictor ({error!r}); run `dvc repro search` again") from error
    return predictor


def _feature_names(predictor: Predictor) -> list[str] | None:
    names = getattr(predictor, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _plain(value: Any) -> Any:
    """Return a NumPy number as a Python number."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a setting of type {type(value).__name__} cannot be saved; use numbers and strings")


def _catboost_error() -> type[Exception]:
    from catboost import CatBoostError

    return CatBoostError  # type: ignore[no-any-return]
