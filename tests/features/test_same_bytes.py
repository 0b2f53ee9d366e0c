"""Features have the same bits on every processor and with every BLAS."""

from pathlib import Path

import bits
import numpy as np
import pytest

from cnnzoo import features
from cnnzoo.features.probes import describe_hidden, describe_logits
from processors import OTHERS, run_on

GOLDEN = Path(__file__).with_name("digests.txt")


def test_features_have_the_golden_bits():
    assert bits.describe().splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("processor", OTHERS)
def test_features_have_the_golden_bits_on_other_processors(processor):
    found = run_on(OTHERS[processor], "-W", "ignore", "tests/features/bits.py")
    assert found.splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


def test_tables_hold_one_kind_of_zero_and_one_of_nan():
    """A sort may order zeros of both signs in any way, and 0 * inf may have either sign."""
    layout, layers = bits.LAYOUTS["published"]
    for name in ("wstats-glob", *bits.SETS):
        rows = bits.hard_networks(layout)
        rows[2, 0] = -np.float32(np.nan)
        (table,) = features.compute(rows, layout, features.parse(name.format(layers)))
        assert not np.signbit(table[table == 0]).any()
        assert set(table[np.isnan(table)].view(np.uint32)) <= {np.float32(np.nan).view(np.uint32)}
    assert np.isnan(table).any()


def test_answers_are_described_the_same_alone_and_among_others():
    logits, maps = bits.hard_answers()
    for describe, answers in ((describe_logits, logits), (describe_hidden, maps)):
        together = describe(answers)
        for network in (2, 5, 6, 30):
            for column, alone in describe(answers[network : network + 1]).items():
                assert alone[0] == together[column][network], column
