"""A command that worked with other processes ends its part of the group, whatever became of it."""

import signal

import pytest
import torch

from convlora.cli import main
from convlora.errors import RunError


@pytest.fixture
def _signals_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_as_before")
@pytest.mark.parametrize(("error", "code"), [(None, 0), (RunError("It went wrong."), 1)])
def test_process_group_is_left(monkeypatch, tmp_path, error, code):
    """A thread of gloo that is still at work when Python ends can abort a process that was done (SIGABRT)."""

    def command(arguments, standalone_mode):
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
        torch.distributed.all_reduce(torch.ones(1))
        if error is not None:
            raise error

    monkeypatch.setattr(main, "app", command)
    with pytest.raises(SystemExit) as end:
        main.run(["train"])
    assert end.value.code == code
    assert not torch.distributed.is_initialized()
