"""Links between the files of the repository lead somewhere."""

import re
import sys

import pytest

from tests.docs.pages import PAGES, ROOT, name_of, prose

sys.path.insert(0, str(ROOT / "scripts"))
# Pages that are made when the site is built.
GENERATED = {ROOT / "docs" / "commands.md"}
NOTEBOOKS = ROOT / "docs" / "notebooks"


def links(page):
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in target]


def anchor(heading):
    """As mkdocs and the hosts of repositories make it."""
    plain = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading.strip().lower())
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", plain)).strip("-")


def anchors(page):
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page):
    for target in links(page):
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file in GENERATED:
            continue
        if file.parent == NOTEBOOKS:
            assert file.with_suffix(".ipynb").is_file(), target
            continue
        assert file.exists(), target
        if fragment:
            assert fragment in anchors(file), target


def test_there_are_links():
    assert sum(len(links(page)) for page in PAGES) > 50


def test_pages_that_the_code_names():
    named = []
    for folder in ("src", "scripts", "benchmarks", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            named += re.findall(r"(?<![\w/])docs/[\w/]+\.\w+", file.read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_has_a_place_on_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES if (ROOT / "docs") in page.parents}
    pages |= {f"notebooks/{notebook.stem}.md" for notebook in NOTEBOOKS.glob("*.ipynb")}
    assert {page for page in pages if f": {page}\n" not in navigation} == set()
