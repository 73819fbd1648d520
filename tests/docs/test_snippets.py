"""The Python code of README and documentation runs."""

import pytest

from tests.docs.pages import PAGES, blocks, name_of

pytestmark = pytest.mark.docs

WITH_CODE = [page for page in PAGES if blocks(page, "python")]
# The model of an example is a small one here, which takes small images only.
SMALLER = {"image_size=512": "image_size=32"}


def test_there_is_code():
    assert len(WITH_CODE) > 5


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_python(page, example_names):
    """The blocks of a page run one after the other, as a reader would type them."""
    for block in blocks(page, "python"):
        text = block.text
        for large, small in SMALLER.items():
            text = text.replace(large, small)
        exec(compile("\n" * block.line + text, str(block.page), "exec"), example_names)  # noqa: S102 - our own pages
