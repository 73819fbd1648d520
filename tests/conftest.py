"""Shared set-up: no network, one seed per test."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
import torch
from hypothesis import settings

settings.register_profile("default", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("default")


def pytest_collection_modifyitems(items):
    """Without a GPU, tests that need one say so when they are asked for."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU, and PyTorch finds none"))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_sam_folder(tmp_path_factory):
    """A random SAM for 64-pixel images, as transformers saves it."""
    from tests.helpers.models import tiny_sam

    folder = tmp_path_factory.mktemp("model") / "sam"
    tiny_sam().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def blobs(tmp_path_factory):
    """A small binary data set with images of several sizes."""
    from convlora.data.synthetic import write_task

    return write_task(
        "cells", tmp_path_factory.mktemp("blobs") / "data", num_train=6, num_val=3, num_test=3, size=(60, 70)
    )


@pytest.fixture(scope="session")
def make_config(tiny_sam_folder, blobs):
    """Settings of a run that takes seconds."""

    def make(**training):
        from convlora.training.config import RunConfig

        config = RunConfig()
        settings = {"lr": 1e-2, "warmup_steps": 0, "batch_size": 2, "grad_accum": 1, "device": "cpu"} | training
        if "budget_seconds" not in settings:
            settings.setdefault("epochs", 2)
        sections = {"data": {"path": str(blobs)}, "model": {"source": str(tiny_sam_folder)}, "training": settings}
        config.update(sections, origin="the test")
        return config

    return make


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, make_config):
    """A finished run."""
    from convlora.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "run"
    train(make_config(), folder)
    return folder


@pytest.fixture
def convlora(capsys):
    """Runs a command in this process; returns exit code, stdout and stderr."""

    from convlora.cli.main import run

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call
