"""A collection of 24 small networks with checkpoints at two epochs, on which all tests of `cnnzoo.data` work."""

import pytest

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.zoo import Collection
from zoos import make_zoo


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> Collection:
    return make_zoo(Artifacts(tmp_path_factory.mktemp("loading")), "loaded", 24)
