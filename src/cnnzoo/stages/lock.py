"""What dvc.lock says of the bytes of a file or folder: the hashes of the run that is in git."""

import hashlib
import json
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cnnzoo.core.errors import CnnzooError


def is_as_locked(path: Path, lock: Path) -> bool:
    """Return whether an output of the pipeline has the bytes that a dvc.lock names, of this clone or of another.

    Raises `CnnzooError` if the lock cannot be read or names no such output.
    """
    try:
        stages = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"].values()
        digests = {Path(out["path"]).parts: out["md5"] for stage in stages for out in stage.get("outs", [])}
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError, AttributeError) as error:
        raise CnnzooError(f"{lock}: cannot be read as a dvc.lock ({type(error).__name__}: {error})") from error
    for output, digest in digests.items():
        if path.resolve().parts[-len(output) :] == output:
            return bool(_digest(path) == digest)
    raise CnnzooError(f"{lock}: names no output {path}; it has those of the pipeline, e.g. data/zoo/mnist5k")


def _digest(path: Path) -> str:
    """Return DVC's MD5: of a file, or of the sorted list of a folder's files."""
    if not path.is_dir():
        return _file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = [{"md5": _file_digest(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listed.sort(key=lambda entry: entry["relpath"].split("/"))
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
