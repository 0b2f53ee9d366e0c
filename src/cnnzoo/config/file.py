"""params.yaml: read and checked as a whole, and changed when a collection is imported."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from cnnzoo.config.params import Imported, Params
from cnnzoo.core.atomic import write_text
from cnnzoo.core.errors import CnnzooError, did_you_mean


def load(path: Path) -> Params:
    """Read and check params.yaml.

    Raises `CnnzooError` that lists every fault: the key, the value found, what is allowed, the nearest valid key.
    """
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CnnzooError(f"{path}: cannot be read ({error.strerror}); run in the root of the project") from error
    except (YAMLError, ValueError) as error:  # ValueError: text that is not UTF-8, dates that do not exist
        raise CnnzooError(f"{path}{_yaml_fault(error)}") from error
    if not isinstance(data, dict):
        raise CnnzooError(f"{path}: expected sections such as `train:`, got {type(data).__name__}")
    return validate(data, str(path))


def _yaml_fault(error: Exception) -> str:
    """Return only the line and the fault: the rest of the library's message is about Python, not about the file."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f", line {error.problem_mark.line + 1}: not valid YAML: {error.problem}"
    return f": not valid YAML: {getattr(error, 'reason', None) or error}"


def validate(data: dict[str, Any], origin: str) -> Params:
    """Check parameters from any source; raises `CnnzooError` that lists every fault and names `origin`."""
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        faults = "\n".join(f"  - {_explain(fault)}" for fault in error.errors())
        raise CnnzooError(f"{origin} is not valid:\n{faults}") from error


def _explain(fault: Any) -> str:
    location = ".".join(str(part) for part in fault["loc"] if part != "[key]")  # pydantic's mark of a dict's key
    if fault["type"] == "extra_forbidden":
        known = _known_keys(fault["loc"][:-1])
        return f"`{location}`: unknown key{did_you_mean(fault['loc'][-1], known)}. Allowed here: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"`{location}`: missing"
    message = fault["msg"].removeprefix("Value error, ")
    got = fault.get("input")
    shown = f", got {got!r}" if isinstance(got, str | int | float | bool | type(None)) else ""
    return f"`{location}`: {message}{shown}" if location else message


def _known_keys(location: Iterable[str | int]) -> list[str]:
    """Return the keys allowed at a place in params.yaml."""
    model: Any = Params
    for part in location:
        annotation = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)[1]
        model = annotation
    return list(model.model_fields)


def add_imported(path: Path, name: str, entry: Imported, check: Callable[[Params, str], None]) -> None:
    """Define an imported collection in params.yaml, and list it in `collections`; comments and everything else remain.

    `check` gets the new parameters and their origin, and raises `CnnzooError` if they do not fit. Raises `CnnzooError`
    if the result would not be valid; the file then stays as it was.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # lines stay as long as they are
    data = yaml.load(path.read_text(encoding="utf-8"))
    data["imported"][name] = CommentedMap(entry.model_dump(exclude_defaults=True))
    data["imported"][name].fa.set_flow_style()  # one line, as the populations have
    if name not in data["collections"]:
        data["collections"].append(name)
    text = io.StringIO()
    yaml.dump(data, text)
    origin = f"{path} with `{name}` in `imported`"
    check(validate(YAML(typ="safe").load(text.getvalue()), origin), origin)
    write_text(path, text.getvalue())
