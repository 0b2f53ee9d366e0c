"""Folders that are sealed: one JSON file in them holds the SHA-256 of every other file, and of itself.

What a native library reads (CatBoost, HDF5, safetensors) is checked first: a damaged file would crash the process, an
altered one would be taken for the original.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FILES, OWN = "files", "sha256"


def write_seal(path: Path, content: Mapping[str, Any], default: Callable[[Any], Any] | None = None) -> None:
    """Write `content` to a JSON file with the digests of all files in its folder and below."""
    whole = {**content, FILES: _digests(path)}
    whole[OWN] = _digest_of(json.dumps(whole, allow_nan=False, default=default))
    path.write_text(json.dumps(whole, indent=1, allow_nan=False, default=default) + "\n", encoding="utf-8")


def read_seal(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file after everything in its folder was checked.

    Raises `ValueError` that names a file which is missing, foreign or altered, and `OSError` if one cannot be read.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or FILES not in content:
        raise ValueError(f"{path.name} holds no digests")
    own = content.pop(OWN, None)
    if own != _digest_of(json.dumps(content)):
        raise ValueError(f"{path.name} is altered or damaged")
    expected, found = content.pop(FILES), _digests(path)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            state = "missing" if name not in found else "foreign" if name not in expected else "altered or damaged"
            raise ValueError(f"{name} is {state}")
    return content


def _digests(seal: Path) -> dict[str, str]:
    """Return the digest of every file beside the seal and below, by its path."""
    folder = seal.parent
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != seal)
    return {path.relative_to(folder).as_posix(): _digest_of_file(path) for path in files}


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
