"""Products in bf16 of single-precision tensors: exact for bf16 numbers, restored afterwards, in threads too."""

import threading

import pytest
import torch

from convlora.cores import cpu_has_bf16
from convlora.models.products import bf16_products

MODE = getattr(torch.backends.mkldnn, "matmul", None)
CPU = torch.device("cpu")
needs_bf16 = pytest.mark.skipif(
    not cpu_has_bf16() or not hasattr(MODE, "fp32_precision"), reason="this CPU or PyTorch has no bf16 products"
)


def _rounds() -> bool:
    """Whether oneDNN heeds the mode on this CPU: AMD's have the instructions, and it does not use them for this."""
    if not cpu_has_bf16() or not hasattr(MODE, "fp32_precision"):
        return False
    factor = torch.full((1, 64, 64), 1 + 2**-12)
    before, MODE.fp32_precision = MODE.fp32_precision, "bf16"
    try:
        return bool(torch.bmm(factor, factor)[0, 0, 0] == 64)
    finally:
        MODE.fp32_precision = before


@needs_bf16
def test_products_of_bf16_numbers_are_exact():
    first, second = (torch.randn(4, 64, 64).bfloat16().float() for _ in range(2))
    expected = first.double() @ second.double()
    with bf16_products(CPU, True):
        found = torch.bmm(first, second)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@needs_bf16
@pytest.mark.skipif(not _rounds(), reason="oneDNN rounds nothing on this CPU")
def test_other_numbers_are_rounded_inside_only():
    first, second = torch.randn(4, 64, 64), torch.randn(4, 64, 64)
    before = torch.bmm(first, second)
    with bf16_products(CPU, True):
        inside = torch.bmm(first, second)
    with bf16_products(CPU, False):
        assert torch.equal(torch.bmm(first, second), before)
    assert not torch.equal(inside, before)
    assert torch.equal(torch.bmm(first, second), before)


@needs_bf16
def test_the_mode_is_restored_when_the_last_of_several_threads_leaves():
    before, first_in, second_in = MODE.fp32_precision, threading.Event(), threading.Event()

    def hold():
        with bf16_products(CPU, True):
            first_in.set()
            second_in.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    first_in.wait(5)
    with bf16_products(CPU, True):
        second_in.set()
        thread.join()
        assert MODE.fp32_precision == "bf16", "the other thread has left, this one has not"
    assert MODE.fp32_precision == before
