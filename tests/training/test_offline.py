"""A SAM that lies on this disk, or comes with the package, is nothing to ask the Hub about."""

import socket
import warnings

import peft.utils.save_and_load
import pytest

from convlora import Segmenter
from convlora.training.run import train


@pytest.fixture
def nobody_is_asked(monkeypatch):
    """Behind a firewall that swallows connections, every question takes half a minute."""

    def ask(*arguments, **options):
        raise AssertionError(f"asked about {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(peft.utils.save_and_load, "check_file_exists_on_hf_hub", ask)


@pytest.mark.usefixtures("nobody_is_asked")
def test_training_and_loading_a_bundled_sam(make_config, tmp_path):
    config = make_config(max_steps=1)
    config.model.source, config.model.image_size = "tiny", 64
    train(config, tmp_path / "run")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        Segmenter.from_run(tmp_path / "run", device="cpu")
    assert [str(one.message) for one in told if one.category is UserWarning] == []
