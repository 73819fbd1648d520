"""What a user reads when something is wrong: the exit code, the file or option at fault, the remedy."""

import re

import pytest
import torch
import typer
from PIL import Image

from convlora.cli import failures
from convlora.cli.main import run
from convlora.errors import InputError, RunError
from convlora.ordinary import NotOrdinaryError


@pytest.fixture
def fails(convlora):
    """Runs a command that must fail; returns its exit code and the message on stderr."""

    def call(*arguments):
        code, out, err = convlora(*arguments)
        assert out == ""
        assert "Traceback" not in err
        return code, err

    return call


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "Missing option '--output'"),
        (["train", "--epochs"], "convlora train --help"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--image-size", "big"], "--image-size must be a number of pixels"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--model", "{sam}", "--image-size", "100"], "divisible by 16"),
        (["train", "{tmp}/none", "--output", "{tmp}/r"], "{tmp}/none does not exist"),
        (["train", "--output", "{tmp}/r"], "convlora train DATA --output RUN"),
        (["train", "{blobs}", "--output", "{blobs}"], "is not empty"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--model", "{tmp}/no.pth"], "There is no file '{tmp}/no.pth'"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--model", "{blobs}"], "holds no config.json"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--method", "magic"], "There is no method 'magic'"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--set", "lr"], "has no '='"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--set", "learnrate=1"], "There is no setting 'learnrate'"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--epochs", "0"], "--epochs must be at least 1"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--epochs", "x"], "--epochs must be a whole number"),
        (["train", "--output", "{tmp}/r", "--resume"], "There is no run in {tmp}/r to resume"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--model", "{run}"], "convlora train DATA --from {run}"),
        (["evaluate", "{run}", "{blobs}", "--model", "{run}"], "is a run, not a model"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--config", "{tmp}/c.yaml"], "There is no file {tmp}/c.yaml"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--config", "{run}"], "settings, such as {run}/config.yaml."),
        (["train", "{blobs}", "--output", "{tmp}/r", "--config", "{blobs}"], "{blobs} is a folder. Give a YAML file"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--config", "road"], "give recipe:road"),
        (["train", "{blobs}", "--output", "{tmp}/r", "--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["evaluate", "{tmp}", "{blobs}"], "is not a run folder"),
        (["evaluate", "{run}", "{blobs}", "--split", "night"], "has no split 'night'"),
        (["evaluate", "{run}", "{tmp}/none"], "does not exist"),
        (["predict", "{run}", "{tmp}/none.jpg", "--output", "{tmp}/p"], "'{tmp}/none.jpg' is no file or folder"),
        (["predict", "{run}", "{tmp}", "--output", "{tmp}/p"], "holds no images"),
        (["inspect", "{tmp}/none"], "neither a local file or folder"),
        (["data", "check", "{tmp}"], "no data set layout"),
        (["dance"], "No such command 'dance'"),
        (["trian"], "Did you mean 'train'? See:"),
        (["train", "--wrong"], "No such option"),
    ],
)
def test_bad_input(fails, arguments, words, tmp_path, blobs, tiny_sam_folder, trained_run):
    places = {"tmp": tmp_path, "blobs": blobs, "sam": tiny_sam_folder, "run": trained_run}
    code, message = fails(*[argument.format(**places) for argument in arguments])
    assert code == 2
    assert words.format(**places) in message
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta"])
def test_devices_that_there_are_not(fails, device, tmp_path, blobs, tiny_sam_folder, trained_run):
    model, target = ("--model", tiny_sam_folder), ("--output", tmp_path / "r")
    for command in (
        ["train", blobs, *model, *target],
        ["compare", blobs, *model, *target],
        ["evaluate", trained_run, blobs],
        ["predict", trained_run, blobs / "test" / "images", *target],
    ):
        code, message = fails(*command, "--device", device)
        assert code == 2
        assert f"--device '{device}' is no device" in message or f"--device {device} was asked for" in message
        assert not (tmp_path / "r").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(fails, tmp_path, blobs, tiny_sam_folder):
    code, message = fails("train", blobs, "--model", tiny_sam_folder, "--output", tmp_path / "r", "--device", "cuda")
    assert code == 2
    assert "finds no GPU" in message


def test_a_damaged_image_is_named(fails, tmp_path, blobs, tiny_sam_folder):
    import shutil

    shutil.copytree(blobs, tmp_path / "d")
    victim = sorted((tmp_path / "d" / "train" / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:500])
    code, message = fails(
        "train", tmp_path / "d", "--model", tiny_sam_folder, "--output", tmp_path / "r", "--device", "cpu"
    )
    assert code == 2
    assert str(victim) in message


def test_a_damaged_image_is_named_by_worker_processes_too(fails, tmp_path, blobs, tiny_sam_folder):
    import shutil

    shutil.copytree(blobs, tmp_path / "d")
    victim = sorted((tmp_path / "d" / "train" / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:500])
    code, message = fails(
        "train", tmp_path / "d", "--model", tiny_sam_folder, "--output", tmp_path / "r", "--device", "cpu",
        "--set", "workers=1",
    )  # fmt: skip
    assert code == 2
    assert str(victim) in message


def test_fewer_mask_tokens_than_classes(fails, tmp_path, blobs, tiny_sam_folder):
    import shutil

    import numpy as np
    from PIL import Image

    shutil.copytree(blobs, tmp_path / "d")
    (tmp_path / "d" / "classes.json").write_text('{"classes": ["a", "b", "c"]}')
    for mask in (tmp_path / "d").rglob("masks/*.png"):
        values = np.asarray(Image.open(mask)) > 0
        Image.fromarray(values.astype(np.uint8) * 2).save(mask)
    code, message = fails(
        "train", tmp_path / "d", "--model", tiny_sam_folder, "--output", tmp_path / "r", "--set", "num_mask_tokens=1"
    )
    assert code == 2
    assert "holds 2 classes" in message
    assert "num_mask_tokens" in message
    assert not (tmp_path / "r").exists()


def test_the_end_of_another_process_is_no_failure_of_this_one(capsys):
    for text in (
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:9",
        "NCCL error: remote process exited or there was a network error",
    ):
        assert failures.exit_code_for(RuntimeError(text), debug=False, command="train") == 1
        err = " ".join(capsys.readouterr().err.split())
        assert "Another process of this run has ended" in err
        assert "report" not in err


def test_advice_depends_on_the_command(capsys):
    for command, told, not_told in (
        ("train", "--adapt-last", "--tile-size"),
        ("predict", "--tile-size", "--adapt-last"),
    ):
        assert failures.exit_code_for(MemoryError(), debug=False, command=command) == 1
        err = capsys.readouterr().err
        assert told in err
        assert not_told not in err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("Bad file x. Do y."), 2, "Bad file x. Do y."),
        (RunError("It broke."), 1, "It broke."),
        (MemoryError(), 1, "--image-size"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            1,
            "activation_checkpointing",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), 1, "Out of memory on the GPU"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`"), 1, "Out of memory on the GPU"),
        (OSError(28, "No space left on device", "/data/x"), 1, "/data/x: No space left on device"),
        (KeyError("strange"), 1, "Unexpected failure (KeyError: 'strange')"),
        (KeyboardInterrupt(), 1, "Interrupted"),
        (typer.BadParameter("Wrong."), 2, "Wrong. See: convlora --help"),
    ],
)
def test_messages_and_exit_codes(error, code, words, capsys):
    assert failures.exit_code_for(error, debug=False) == code
    captured = capsys.readouterr()
    assert words in re.sub(r"\s+", " ", captured.err)
    assert "Traceback" not in captured.err


def test_debug_shows_the_traceback(capsys, tmp_path):
    for arguments in (["--debug", "inspect", str(tmp_path)], ["inspect", str(tmp_path), "--debug"]):
        with pytest.raises(SystemExit) as caught:
            run(arguments)
        assert caught.value.code == 2
        assert "Traceback" in capsys.readouterr().err


def test_markup_in_a_path_is_text(fails, tmp_path):
    code, message = fails("inspect", tmp_path / "[bold]x")
    assert code == 2
    assert "[bold]x" in message


def test_names_move_nothing_on_the_terminal(fails, convlora, tmp_path, trained_run):
    """In errors, in what is printed, in tables, and in tracebacks."""
    wild = "\x1b[31mred\x1b]0;title\x07\u202e"
    for arguments in (["predict", trained_run, f"{tmp_path}/{wild}", "--output", tmp_path], ["data", "check", wild]):
        code, message = fails(*map(str, arguments))
        assert code == 2
        assert r"\x1b[31mred\x1b]0;title\x07\u202e" in message
        assert "\x1b" not in message
    (tmp_path / wild).mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / wild / "a.png")
    _, out, err = convlora(
        "predict", str(trained_run), str(tmp_path / wild / "a.png"), "--output", str(tmp_path / wild)
    )
    _, debug_out, debug_err = convlora("data", "check", wild, "--debug")
    assert not {"\x1b", "\x07", "\u202e"} & {*out, *err, *debug_out, *debug_err}
    assert "Traceback" in debug_err


def test_readers_that_are_lost_are_named():
    for told in ("DataLoader worker (pid 7) is killed by signal: Killed.", "DataLoader timed out after 600 seconds"):
        assert failures._is_lost_reader(RuntimeError(told))


def test_a_pipe_in_the_place_of_a_file(capsys):
    assert failures.exit_code_for(NotOrdinaryError("RUN/log.jsonl"), debug=False) == 2
    assert "RUN/log.jsonl is a pipe, a socket or a device, and no file." in capsys.readouterr().err
