"""The one table of tolerances. Widening an entry needs a written cause beside it."""

from typing import NamedTuple

import torch


class Tolerance(NamedTuple):
    """Arguments of `torch.testing.assert_close`."""

    rtol: float
    atol: float


# Two ways to compute the same thing in the same floating-point type.
BY_DTYPE = {
    torch.float64: Tolerance(1e-10, 1e-10),
    torch.float32: Tolerance(1e-5, 1e-5),
    torch.bfloat16: Tolerance(2e-2, 2e-2),
    torch.float16: Tolerance(2e-3, 2e-3),
}

# Stored float32 reference values; relative to the largest magnitude of each tensor (see tests/reference/README.md).
REFERENCE = 2e-5

# Whole models against other packages in float32: many layers add up.
MODEL = Tolerance(1e-4, 1e-5)

# Stored scores of images, absolute: the published evaluation computes some in float32, which moves them by 5e-8.
SCORES = 1e-7

# Probabilities of a saved run on another machine, absolute: a few layers of float32 in another order.
SAVED_RUN = 1e-4

# Two processes against one after some steps, losses relative: gradients are added in another order, and an optimizer
# that divides by their size passes on what is left of two that nearly cancel.
PROCESSES = Tolerance(1e-4, 0.0)
PROCESSES_WEIGHTS = Tolerance(1e-3, 1e-4)
# What is counted in pixels and averaged over three images, absolute.
PROCESSES_SCORES = 1e-3
