"""Whole numbers from text of others: `int` takes other scripts' digits, and refuses more than 4,300 of them."""

import re

DIGITS = r"[0-9]{1,18}"
"""A whole number that every integer type of 64 bits holds."""


def whole_number(text: str) -> int | None:
    """Return the number that up to 18 ASCII digits write; None for any other text."""
    return int(text) if re.fullmatch(DIGITS, text) else None
