"""Fitted predictors on disk, without pickle: JSON for settings, safetensors for arrays, CatBoost's own format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cnnzoo.atomic import atomic_folder
from cnnzoo.errors import CnnzooError
from cnnzoo.predictors.base import Predictor

FORMAT = "cnnzoo-predictor-1"
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
            "words": {str(column): list(known) for column, known in predictor.words_.items()},
            "target_range": list(predictor.target_range_),
            "learned": values,
        }
        text = json.dumps(content, indent=1, allow_nan=False, default=_plain)
        (new / SETTINGS).write_text(text + "\n", encoding="utf-8")
        if arrays:
            save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, new / ARRAYS)


def load_predictor(registry: dict[str, type[Predictor]], folder: Path) -> Predictor:
    """Read what `save_predictor` wrote; its predictions are the same bit for bit.

    Raises `CnnzooError` that names the file if it is missing, damaged or of another format.
    """
    path = folder / SETTINGS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        predictor = registry[content["predictor"]](**content["settings"])
        predictor.n_features_in_ = content["n_features"]
        if content["features"] is not None:
            predictor.feature_names_in_ = np.array(content["features"], dtype=object)
        predictor.words_ = {int(column): tuple(known) for column, known in content["words"].items()}
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
    raise TypeError(f"a setting of type {type(value).__name__} cannot be saved; use numbers and words")


def _catboost_error() -> type[Exception]:
    from catboost import CatBoostError  # noqa: PLC0415 - only needed where a model is damaged

    return CatBoostError  # type: ignore[no-any-return]
