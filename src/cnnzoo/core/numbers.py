"""Whole numbers in text that others wrote.

`int` alone accepts the digits of other scripts, and raises `ValueError` above 4,300 digits.
"""

import re

DIGITS = r"[0-9]{1,18}"
"""A pattern of whole numbers that fit into a signed integer of 64 bits."""


def whole_number(text: str) -> int | None:
    """Return the number that up to 18 ASCII digits write; None for any other text."""
    return int(text) if re.fullmatch(DIGITS, text) else None
