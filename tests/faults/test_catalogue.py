"""The fault catalogue fits the code of today: every fault can be put in, and names tests that are there."""

import ast
import tomllib
from collections import Counter

import pytest

from faults.catalogue import FOLDER, missing_tests, read_catalogue
from imports import ROOT

CATALOGUE = read_catalogue()


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.id)
def test_a_fault_replaces_one_piece_of_text_and_names_tests_that_are_there(fault):
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    assert fault.old != fault.new
    assert fault.tests
    assert missing_tests(fault) == []


@pytest.mark.parametrize("fault", [f for f in CATALOGUE if f.file.endswith(".py")], ids=lambda fault: fault.id)
def test_a_fault_leaves_code_that_python_reads(fault):
    """A mistake that any import would show is no test of the tests."""
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    ast.parse(text.replace(fault.old, fault.new))


def test_names_are_unique_and_every_file_holds_faults():
    assert [id for id, count in Counter(fault.id for fault in CATALOGUE).items() if count > 1] == []
    for path in FOLDER.glob("*.toml"):
        assert tomllib.loads(path.read_text(encoding="utf-8"))["fault"], path


def test_a_fault_that_no_test_notices_is_rare_and_says_why():
    unnoticed = [fault for fault in CATALOGUE if fault.unnoticed]
    assert len(unnoticed) <= 0.05 * len(CATALOGUE)
    assert all(len(fault.unnoticed) > 20 for fault in unnoticed)


def test_the_catalogue_is_large():
    assert len(CATALOGUE) >= 120
