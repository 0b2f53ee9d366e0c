"""Whole numbers from text."""

import pytest

from cnnzoo.core.numbers import whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_digits_are_a_number(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", " 1", "1\n", "1_0", "\u00b2", "\u0663", "9" * 19, "1" * 5000])
def test_any_other_text_is_none(text):
    assert whole_number(text) is None
