"""The stage `features`: what it says where the bytes of its output are not promised."""

import warnings
from types import SimpleNamespace

import pytest

from cnnzoo.stages import features as stage


@pytest.fixture
def context(monkeypatch):
    """A stage without a collection: what it would write is not computed."""
    monkeypatch.setattr(stage.Collection, "open", lambda path: None)
    monkeypatch.setattr(stage, "write_features", lambda *arguments: None)
    artifacts = SimpleNamespace(zoo=lambda name: name, features=lambda name: name)

    def make(*sets):
        params = SimpleNamespace(
            runtime=SimpleNamespace(threads=1),
            features=SimpleNamespace(sets=sets),
            forecast=SimpleNamespace(features="wstats-glob"),
        )
        return SimpleNamespace(artifacts=artifacts, target="alpha", params=params)

    return make


def test_probes_without_the_kernel_are_announced(context, monkeypatch):
    monkeypatch.setattr(stage, "unavailable_reason", lambda: "it was not built")
    with pytest.warns(UserWarning, match="not to the byte: it was not built"):
        stage.features(context("hyper", "wstats-glob+probes"))


@pytest.mark.parametrize(("sets", "reason"), [(["hyper", "wstats-glob"], "it was not built"), (["probes"], None)])
def test_features_whose_bytes_are_promised_are_not_announced(context, monkeypatch, sets, reason):
    monkeypatch.setattr(stage, "unavailable_reason", lambda: reason)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stage.features(context(*sets))
