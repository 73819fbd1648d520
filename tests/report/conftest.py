"""Here figures are looked at."""

import pytest

from tests.helpers.figures import drawn


@pytest.fixture(autouse=True, scope="module")
def _figures_are_drawn(_figures_stay_empty):
    with drawn():
        yield
