"""Devices by name, what they compute in, and who reads beside them. GPUs are pretended: the logic needs none."""

import contextlib

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import TrainingArguments

from convlora import devices
from convlora.devices import (
    background_threads,
    default_batch,
    default_workers,
    resolve_device,
    resolve_precision,
    set_matmul_precision,
    use_device,
)
from convlora.errors import InputError, is_out_of_memory
from convlora.training.arguments import DeviceArguments, trainer_arguments
from convlora.training.config import RunConfig

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that there are four GPUs; returns the devices that were made the current one."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(torch.device(device)))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "")  # so that it is as before afterwards
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    yield chosen
    AcceleratorState._reset_state(reset_partial_state=True)  # which would remember a device that there is not


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CUDA", "", "cuda:-1"])
def test_typos_are_no_devices(name):
    with pytest.raises(InputError, match=r"is no device\. Give auto, cpu, cuda, cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["meta", "xpu"])
def test_devices_that_are_not_there(name):
    with pytest.raises(InputError, match=f"--device {name} was asked for, but PyTorch finds no device of the type"):
        resolve_device(name)


def test_the_cpu_has_no_number():
    assert resolve_device("cpu") == resolve_device("cpu:0") == CPU


@pytest.mark.parametrize(("name", "index"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_one_of_several_gpus(gpus, name, index):
    assert resolve_device(name) == torch.device("cuda", index)


def test_a_gpu_beyond_the_last(gpus):
    with pytest.raises(InputError, match="there are 4, numbered from 0"):
        resolve_device("cuda:4")


@pytest.mark.parametrize(("rank", "index"), [("0", 0), ("3", 3), ("5", 1)])
def test_each_process_takes_its_own_gpu(gpus, monkeypatch, rank, index):
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "6")
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", index)
    with pytest.raises(InputError, match="would give one device to all of 6 processes"):
        resolve_device("cuda:1")


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_bf16_only_where_it_is_not_emulated(gpus, monkeypatch, native, precision):
    # Without the argument a T4 says yes.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_precision("auto", GPU) == precision


def test_precisions_elsewhere():
    assert resolve_precision("auto", CPU) == resolve_precision("auto", torch.device("mps")) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    with pytest.raises(InputError, match="needs a GPU"):
        resolve_precision("fp16", CPU)
    with pytest.raises(InputError, match=r"--precision 'float16' is no precision\. Give one of auto, fp32, bf16, fp16"):
        resolve_precision("float16", CPU)


@pytest.mark.parametrize(
    ("width", "has_bf16", "precision"),
    [(768, True, "bf16"), (768, False, "fp32"), (192, True, "fp32"), (None, True, "fp32")],
)
def test_bf16_on_cpus_that_have_it_for_wide_encoders(width, has_bf16, precision, monkeypatch):
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: has_bf16)
    assert resolve_precision("auto", CPU, width) == precision
    assert resolve_precision("fp32", CPU, width) == "fp32", "what was asked for counts"
    assert resolve_precision("auto", torch.device("mps"), width) == "fp32"


def test_tf32_beside_half_precision_only():
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for device, precision, expected in ((GPU, "bf16", True), (GPU, "fp32", False), (CPU, "bf16", False)):
            set_matmul_precision(device, precision)
            assert torch.backends.cuda.matmul.allow_tf32 is expected
        assert torch.get_float32_matmul_precision() == "highest", "that of a CPU"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(
    ("cores", "processes", "images", "workers"),
    [(16, 1, 100, 8), (6, 1, 100, 5), (16, 4, 100, 3), (1, 1, 100, 0), (2, 4, 100, 0), (16, 1, 3, 3)],
)
def test_readers_by_cores(monkeypatch, cores, processes, images, workers):
    monkeypatch.setattr(devices, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert default_workers(GPU, images) == workers
    assert default_workers(CPU, images) == 0
    assert background_threads(GPU, images) == workers
    assert background_threads(CPU, images) == (cores // processes > 1)
    assert background_threads(CPU, 1) == 0


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cudaMalloc failed: initialization error",
        "MPS backend out of memory (MPS allocated: 17.83 GB)",
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried",
    ],
)
def test_memory_that_ran_out(text):
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))


def test_other_errors_are_others():
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


# ---- what the Trainer is told ----


def test_visible_gpus_do_not_multiply_the_batch(gpus, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # transformers counts them all the same
    assert TrainingArguments(str(tmp_path), per_device_train_batch_size=3).train_batch_size == 12
    arguments = DeviceArguments(str(tmp_path), per_device_train_batch_size=3)
    assert arguments.train_batch_size == 3
    assert arguments.n_gpu == 1, "or the model would be spread over them"


def test_a_gpu_by_name_is_the_one_that_is_used(gpus, monkeypatch, tmp_path):
    use_device(resolve_device("cuda:1"))
    arguments = DeviceArguments(str(tmp_path))
    assert arguments.device == GPU
    assert gpus[-1] == GPU, "the current device too, after transformers made it the first"
    use_device(CPU)
    later = DeviceArguments(str(tmp_path), use_cpu=True)
    assert later.device == later.distributed_state.device == CPU, "a later run elsewhere"


def test_arguments_for_a_gpu(gpus, monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "usable_cores", lambda: 6)
    config = RunConfig()
    config.override(["precision=fp32", "batch_size=4", "grad_accum=1", "epochs=20"])
    arguments = trainer_arguments(config, tmp_path, GPU, images=100)
    assert (arguments.train_batch_size, arguments.per_device_eval_batch_size) == (4, default_batch(GPU))
    assert (arguments.dataloader_num_workers, arguments.dataloader_pin_memory) == (5, True)
    assert arguments.accelerator_config.non_blocking
    assert arguments.max_steps == 20 * 25
