"""The stand-in must see what it is for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.no_sync import Waits, no_sync

VALUES, MASK = torch.arange(4.0), torch.tensor([True, False, True, False])
WAITING = {
    "item": lambda: VALUES[0].item(),
    "bool": lambda: bool(MASK.any()),
    "if": lambda: 1 if VALUES.sum() > 1 else 0,
    "int": lambda: int(VALUES[0]),
    "float": lambda: float(VALUES[0]),
    "index": lambda: [1, 2][torch.ones((), dtype=torch.long)],
    "cpu": lambda: VALUES.cpu(),
    "to the host": lambda: VALUES.to("cpu"),
    "numpy": lambda: VALUES.numpy(),
    "array": lambda: np.asarray(VALUES),
    "tolist": lambda: VALUES.tolist(),
    "nonzero": lambda: MASK.nonzero(),
    "where": lambda: torch.where(MASK),
    "masked_select": lambda: VALUES.masked_select(MASK),
    "mask as index": lambda: VALUES[MASK],
    "assignment through a mask": lambda: VALUES.clone().__setitem__(MASK, VALUES[:2]),
    "unique": lambda: VALUES.unique(),
    "unique_consecutive": lambda: VALUES.unique_consecutive(),
    "repeat_interleave": lambda: VALUES.repeat_interleave(torch.ones(4, dtype=torch.long)),
    "bincount": lambda: VALUES.long().bincount(),
    "multinomial": lambda: VALUES.multinomial(2),
    "equal": lambda: torch.equal(VALUES, VALUES),
    "allclose": lambda: torch.allclose(VALUES, VALUES),
    "tensor of numbers": lambda: torch.tensor([1.0, 2.0], device=VALUES.device),
    "as_tensor of a number": lambda: torch.as_tensor(1.0, device=VALUES.device),
    "new_tensor": lambda: VALUES.new_tensor([1.0, 2.0]),
    "upload": lambda: torch.from_numpy(np.ones(3)).to(VALUES.device),
    "one_hot": lambda: F.one_hot(MASK.long()),
    "in the backward pass": lambda: _Asks.apply(VALUES.clone().requires_grad_()).sum().backward(),
}


class _Asks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values * 1

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float(gradient.sum())


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_seen(name):
    WAITING[name]()
    with no_sync(), pytest.raises(Waits):
        WAITING[name]()
    WAITING[name]()


def test_what_does_not_wait_is_let_through():
    with no_sync() as seen:
        values = torch.where(MASK, VALUES, 0.0).masked_fill(MASK, float("nan")).nan_to_num()
        values = values[torch.zeros(2, dtype=torch.long)] * 2.0 + torch.zeros(())
        values.to("cpu", non_blocking=True).tolist()
        VALUES.repeat_interleave(2)
        uploaded = torch.from_numpy(np.ones(3)).to(VALUES.device, non_blocking=True)
        F.one_hot(MASK.long(), 2)
        with pytest.raises(Waits):
            uploaded.cpu()
    assert seen.made == 1


def test_copies_are_counted():
    with no_sync(copies=1) as seen:
        assert VALUES.cpu().numpy().tolist() == [0, 1, 2, 3]
        with pytest.raises(Waits):
            VALUES.cpu()
    assert seen.made == 2
