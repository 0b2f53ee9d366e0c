"""A scripted predictor for the tests of this folder."""

import pytest
from samples import Scripted

from cnnzoo import predictors


@pytest.fixture
def scripted(monkeypatch):
    """Let `linear` and `dnn` be predictors that follow a script; see `samples.Scripted`."""
    for name in ("linear", "dnn"):
        monkeypatch.setitem(predictors.REGISTRY, name, Scripted)
    Scripted.forget()
    return Scripted
