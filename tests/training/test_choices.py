import math

import pytest
import torch

from convlora.training.choices import ChoiceAccount, entry_of


def test_shares_and_entropy_between_two_lines():
    account = ChoiceAccount()
    first = entry_of(account.line(torch.tensor([[4.0, 0, 0, 0], [1, 1, 1, 1]])))
    assert first == {"expert_shares": [0.625, 0.125, 0.125, 0.125], "expert_entropy": 0.5}
    second = account.line(torch.tensor([[4.0, 4, 0, 0], [3, 3, 1, 1]]))
    assert entry_of(second)["expert_shares"] == [0.25, 0.75, 0, 0]
    assert second["expert_entropy"] == pytest.approx(0.5 * math.log(2) / math.log(4))
    account.restart()
    assert entry_of(account.line(torch.tensor([[0.0, 2], [0, 2]])))["expert_shares"] == [0, 1]


def test_nothing_is_said_where_nothing_was_chosen():
    account = ChoiceAccount()
    assert account.line(torch.zeros(2, 3)) == {}
    account.restart()
    assert account.line(torch.ones(2, 1)) == {}
    assert entry_of({"loss": 1.0}) == {}
