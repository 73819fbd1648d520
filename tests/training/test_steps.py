import math

import pytest
import torch

from convlora.training.steps import PendingSteps, Step, StepAccount, skip_on_device, tell_by_gradients


def optimizer_of(weight, fused):
    return torch.optim.AdamW([weight], lr=0.1, weight_decay=0.1, fused=fused)


@pytest.mark.parametrize("skipped", [float("nan"), 7.0])
def test_a_step_that_is_skipped_on_the_device_leaves_no_trace(skipped):
    """Weights, moments and the count of steps, then and afterwards, are those of a run without that step."""
    ends = []
    for gradients in ((1.0, skipped, -3.0), (1.0, -3.0)):
        weight = torch.nn.Parameter(torch.arange(4.0))
        optimizer = optimizer_of(weight, fused=True)
        for gradient in gradients:
            weight.grad = torch.full((4,), gradient)
            skip = len(gradients) == 3 and gradient is skipped
            assert skip_on_device(optimizer, torch.tensor(float(skip)))
            optimizer.step()
        ends.append([weight.detach(), *optimizer.state[weight].values()])
    assert len(ends[0]) == 4
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_an_optimizer_that_cannot_skip_says_so():
    optimizer = optimizer_of(torch.nn.Parameter(torch.ones(1)), fused=False)
    assert not skip_on_device(optimizer, torch.ones(()))
    assert not hasattr(optimizer, "found_inf")


@pytest.mark.parametrize("told", [True, False])
def test_a_scaler_is_told_of_a_loss_that_is_not_finite(told):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer, scaler = optimizer_of(weight, fused=True), torch.amp.GradScaler("cpu", init_scale=8.0)
    loss = weight.sum() + math.inf  # the gradient of which is 1
    scaler.scale(tell_by_gradients(loss) if told else loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(weight.detach(), torch.ones(3)) == told
    assert scaler.get_scale() == (4.0 if told else 8.0)


def test_a_finite_loss_keeps_its_value_and_gradients():
    weight = torch.randn(3, requires_grad=True)
    loss = (weight**2).sum()
    assert torch.equal(tell_by_gradients(loss), loss)
    told, plain = (torch.autograd.grad(one, weight, retain_graph=True)[0] for one in (tell_by_gradients(loss), loss))
    assert torch.equal(told, plain)


def step(number):
    return Step(number, 1, torch.tensor([0.0, number, 0.0, 0.0]))


def test_values_travel_together_and_are_looked_at_a_step_later():
    shared = []
    pending = PendingSteps(3, lambda table: shared.append(len(table)) or table)
    arrived = []
    for number in range(1, 9):
        pending.append(step(number))
        arrived.append([(one.number, values[1]) for one, values in pending.take(now=False)])
    assert arrived == [[], [], [], [(1, 1.0), (2, 2.0), (3, 3.0)], [], [], [(4, 4.0), (5, 5.0), (6, 6.0)], []]
    assert [one.number for one, _ in pending.take(now=True)] == [7, 8]
    assert pending.take(now=True) == []
    assert shared == [3, 3, 2]


def test_all_are_waited_for_if_asked():
    pending = PendingSteps(2, lambda table: table)
    for number in (1, 2):
        pending.append(step(number))
    assert pending.take(now=False) == []
    pending.append(step(3))
    assert [one.number for one, _ in pending.take(now=True)] == [1, 2, 3]


def test_the_account_of_skipped_and_other_steps():
    account = StepAccount()
    account.add(norm=2.0, losses=[4.0, 1.0], passes=2)
    account.skip()
    account.skip()
    account.add(norm=3.0, losses=[5.0, 2.0], passes=1)
    assert (account.skipped_steps, account.skipped_in_a_row, account.last_norm) == (2, 0, 3.0)
    other = StepAccount()
    other.load_state_dict(account.state_dict())
    assert account.end_line() == other.end_line() == {"loss": 4.0, "task_loss": 3.0, "load_balancing_loss": 1.0}
    account.skip()
    assert math.isnan(account.end_line()["loss"])
    other.load_state_dict({"skipped_steps": 7})  # of a version that knew no more
    assert other.skipped_steps == 7
