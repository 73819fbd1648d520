"""Imports point one way: no module leads back to itself, and no package imports from one above it."""

import ast
from pathlib import Path

import pytest

import convlora

ROOT = Path(convlora.__file__).parent
# From the top down. What stands in one line may not import from each other.
LEVELS = [
    ["cli"],
    ["quickstart", "api", "serve", "annotating"],
    ["folds", "converting"],
    ["comparison", "exporting", "importing", "inspecting", "prepare", "sharing"],
    ["training"],
    ["report"],
    ["inference"],
    ["runs", "pictures", "measuring"],
    ["data.checking", "data.dataset"],
    ["data.sources", "data.windows"],
    ["models", "data.classes", "data.sample", "data.transforms", "data.synthetic", "data.readers", "data.kept"],
    ["methods", "metrics", "losses", "data.reading", "data.augmentation", "data.problem"],
]
# Modules that know nothing of images, models and runs; every package may use them.
TOOLS = {
    "allocator", "cores", "devices", "enlarge", "errors", "known_models", "links", "locking", "ordinary", "paths",
    "recipes", "reporting", "settings", "storage", "tracing", "untrusted", "words",
}  # fmt: skip


def modules():
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(path):
    """Modules of the package that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("convlora.") in MODULES else node.module for name in names]
        else:
            continue
        yield from (name.removeprefix("convlora.") for name in names if name.startswith("convlora."))


GRAPH = {name: set(imported(path)) - {name} for name, path in MODULES.items() if name}


def package_of(module):
    """`data.reading` of `data.reading.tiff.header`, `training` of `training.run`."""
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "data" else 1])


def test_no_module_leads_back_to_itself():
    done, path = set(), []

    def follow(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            path.append(module)
            for other in sorted(GRAPH.get(module, ())):
                follow(other)
            done.add(path.pop())

    for module in GRAPH:
        follow(module)


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_imports_point_down(module):
    level = {package: number for number, packages in enumerate(LEVELS) for package in packages}
    own = package_of(module)
    if own == "data" or own.startswith("_"):
        return
    for other in sorted(map(package_of, GRAPH[module])):
        if other != own and other not in TOOLS:
            assert own not in TOOLS, f"{own} is for everyone, and must not know {other}"
            assert level[own] < level[other], f"{own} -> {other}"


def test_every_package_has_its_place():
    named = {package for packages in LEVELS for package in packages} | TOOLS
    assert {package_of(module) for module in GRAPH} - {"data", "_peft_registration"} == named


def test_files_are_short():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
