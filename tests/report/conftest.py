"""The study that the tests of the report share, with its report and the figures on it; tests only read them."""

import pytest
from matplotlib.figure import Figure
from report_study import Study, make_study, write_unrendered


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def figures(study: Study) -> dict[str, Figure]:
    return write_unrendered(study)
