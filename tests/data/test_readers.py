"""Handing over what reading processes have read."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from convlora.data import readers
from convlora.data.readers import shield_readers


class Numbers(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {"pixel_values": torch.full((3, 40, 50), index, dtype=torch.uint8), "changes": torch.zeros(0)}


def no_room(self, *arguments):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")


def batches(workers):
    loader = DataLoader(Numbers(), batch_size=2, num_workers=workers)
    shield_readers(loader)
    loader.timeout = 10 if workers else 0  # without the mend it would wait for ever
    return list(loader)


@pytest.mark.parametrize("room", [0, 1 << 40])
def test_batches_arrive_without_shared_memory(monkeypatch, room):
    """As in a container, whose /dev/shm has 64 MB; another program may fill it between the question and the attempt."""
    monkeypatch.setattr(readers, "_room", lambda: room)
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", no_room)
    # The default one shares what it stacks by itself.
    monkeypatch.setattr(torch.utils.data._utils.collate, "default_collate_fn_map", {torch.Tensor: stacked})
    found = batches(workers=2)
    assert [batch["pixel_values"].shape for batch in found] == [(2, 3, 40, 50)] * 3
    for number, batch in enumerate(found):
        assert batch["pixel_values"].dtype == torch.uint8
        assert batch["pixel_values"][:, 0, 0, 0].tolist() == [2 * number, 2 * number + 1]
        assert batch["changes"].shape == (2, 0)
        batch["pixel_values"] += 1  # it belongs to whoever was given it


def stacked(batch, *, collate_fn_map=None):
    return torch.stack(batch)


def test_where_there_is_room_it_is_shared(monkeypatch):
    monkeypatch.setattr(readers._ThroughPipe, "__init__", lambda self, tensor: 1 / 0)
    assert len(batches(workers=2)) == 3


def test_without_readers_nothing_is_handed_over(monkeypatch):
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", no_room)
    assert len(batches(workers=0)) == 3


def test_no_reader_is_waited_for_without_end():
    loader = DataLoader(Numbers(), num_workers=1)
    shield_readers(loader)
    assert loader.timeout == readers.LONGEST_WAIT
