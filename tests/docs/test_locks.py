"""Each lock file pins what is installed with it."""

import importlib.metadata
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.pages import ROOT


def pins(name):
    """Package and version of each line of a lock file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [line.split("#")[0].strip().split("==") for line in lines if "==" in line]
    return {canonicalize_name(package): version for package, version in found}


def closure(requirements):
    """Every package that these need here, by name; those that are not installed are left out."""
    waiting, seen = [Requirement(text) for text in requirements], set()
    while waiting:
        requirement = waiting.pop()
        for extra in requirement.extras or {""}:
            key = canonicalize_name(requirement.name), extra
            if key in seen:
                continue
            seen.add(key)
            if key[0] == "convlora":
                needed = project()["optional-dependencies"][extra]
            else:
                try:
                    needed = importlib.metadata.requires(requirement.name) or []
                except importlib.metadata.PackageNotFoundError:
                    continue
            parsed = [Requirement(text) for text in needed]
            waiting += [
                one
                for one in parsed
                if one.marker is None or any(one.marker.evaluate({"extra": name}) for name in ("", extra))
            ]
    return {name for name, _ in seen} - {"convlora"}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_users():
    """Nothing more and nothing less than the package needs."""
    locked = set(pins("requirements.lock"))
    needed = closure(project()["dependencies"])
    assert needed - locked == set(), "add them to requirements.lock"
    # What only some platforms need is not seen on others.
    assert {name for name in locked - needed if installed(name)} == set(), "no dependency of the package needs them"


def test_developers():
    extras = project()["optional-dependencies"]
    needed = closure([f"convlora[{name}]" for name in ("test", "docs", "dev") if name in extras])
    assert needed - set(pins("requirements.lock")) - set(pins("requirements-dev.lock")) == set()


def test_no_package_is_pinned_twice():
    assert pins("requirements.lock").keys() & pins("requirements-dev.lock").keys() == set()
    assert (ROOT / "requirements-dev.lock").read_text().splitlines()[1] == "-r requirements.lock"


def test_torch_has_no_local_suffix():
    """So that the same line gives a CPU build where one is offered, and a CUDA build elsewhere."""
    assert re.fullmatch(r"[\d.]+", pins("requirements.lock")["torch"])


@pytest.mark.parametrize("extra", ["", "export", "geo", "ray", "serve", "cvat", "volumes", "test", "docs", "dev"])
def test_the_lock_agrees_with_the_bounds_of_the_project(extra):
    """So that installing an extra over the lock files changes nothing."""
    versions = pins("requirements.lock") | pins("requirements-dev.lock")
    asked = project()["optional-dependencies"][extra] if extra else project()["dependencies"]
    for requirement in map(Requirement, asked):
        if requirement.name != "convlora":  # another extra
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def installed(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("line", [0, 1])
def test_the_readme_installs_from_them(line):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text.partition("<!-- set-up -->")[2].partition("<!-- end of set-up -->")[0]
    commands = [one for one in part.splitlines() if one.startswith("pip install")]
    assert len(commands) == 2
    assert ("requirements.lock", "requirements-dev.lock")[line] in commands[line]
