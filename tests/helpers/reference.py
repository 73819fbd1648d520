"""The stored numbers of the published implementation, see tests/reference/README.md."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parent.parent / "reference"


@cache
def tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


@cache
def description(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def case_tensors(name: str, case: str) -> dict[str, torch.Tensor]:
    """The tensors of one case, without the case's name in the keys."""
    prefix = case + "/"
    return {key.removeprefix(prefix): value for key, value in tensors(name).items() if key.startswith(prefix)}


def relative_difference(actual: torch.Tensor, expected: torch.Tensor, floor: float = 1.0) -> float:
    """Largest difference, relative to the largest magnitude expected (at least `floor`)."""
    assert actual.shape == expected.shape
    actual, expected = actual.detach(), expected.detach()
    return float((actual.double() - expected.double()).abs().max() / max(floor, float(expected.abs().max())))
