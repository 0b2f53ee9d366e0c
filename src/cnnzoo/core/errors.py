"""The one exception whose message is meant for a person.

Everything that a user can get wrong (a parameter, a file, a disk) raises `CnnzooError`. Its message names the
thing, says what was found and what is allowed, and how to correct it. The command line prints it without a traceback.
"""

import difflib
from collections.abc import Iterable


class CnnzooError(Exception):
    """An error whose message says what is wrong, where, what is allowed, and how to correct it."""


def counted(number: int, noun: str) -> str:
    """Return `1 network`, `30,000 networks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of a message that names the known word nearest to an unknown one; empty if none is near."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
