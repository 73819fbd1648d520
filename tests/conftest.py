"""Shared set-up: no network, one seed per test, and whole folders of tests spread over the cores."""

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
from hypothesis import settings

from convlora.cores import usable_cores

settings.register_profile("default", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("default")

_MOST_WORKERS = 8  # each takes a gigabyte


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Spreads folders of tests over the cores, before pytest-xdist reads how many workers are asked for.

    A file or a single test runs in this process, which is done sooner than workers have started. So does all that is
    asked for with `-n 0` or `-p no:xdist`, and what needs a GPU. An option in `addopts` would know none of that.
    """
    option = config.option
    workers = getattr(option, "numprocesses", 0)  # 0: without pytest-xdist
    stays = hasattr(config, "workerinput") or option.usepdb or option.collectonly
    stays = stays or all("::" in name or name.endswith(".py") for name in config.args)
    stays = stays or "gpu" in option.markexpr.replace("not gpu", "")
    if workers is None and not stays:
        workers = option.numprocesses = min(usable_cores(), _MOST_WORKERS)
    if not workers:
        return
    if option.dist in ("no", "load"):
        option.dist = "worksteal"  # neighbours stay together, and share what their module has made
    # Read when PyTorch is loaded. Threads of several processes would wait for cores, and for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // workers) if isinstance(workers, int) else 1))


def pytest_collection_modifyitems(items):
    """Without a GPU, tests that need one say so when they are asked for."""
    needy = [item for item in items if item.get_closest_marker("gpu")]
    if needy and not _has_gpu():
        for item in needy:
            item.add_marker(pytest.mark.skip(reason="needs a GPU, and PyTorch finds none"))


def _has_gpu():
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True, scope="module")
def _few_objects_to_search():
    """Sets aside what is there already: each run collects garbage, and would search all libraries and tests for it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    """Files of tests need not survive a power cut; that they are sent to the disk is seen in tests/test_storage.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which refuses what is no file, too
        yield


@pytest.fixture(autouse=True, scope="session")
def _figures_stay_empty():
    """But for tests that look at them, which ask for `drawn_figures`."""
    from tests.helpers.figures import leave_empty

    leave_empty()


@pytest.fixture
def drawn_figures():
    """Figures are what they are for users."""
    from tests.helpers.figures import drawn

    with drawn():
        yield


@pytest.fixture(autouse=True)
def _seed():
    import torch  # here, since the process that only hands out tests needs none

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
    """A finished run, with a whole report."""
    from convlora.training.run import train
    from tests.helpers.figures import drawn

    folder = tmp_path_factory.mktemp("runs") / "run"
    with drawn():
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
