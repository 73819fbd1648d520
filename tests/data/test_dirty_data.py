"""Bad and odd data, and every sentence that a user is told about them; the cases stand in `dirty_*.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from convlora.cli import main
from convlora.data.check import check_data
from convlora.data.images import read_image, read_image_size, read_mask
from convlora.data.sources import open_data
from convlora.errors import InputError
from tests.data import dirty_classes, dirty_coco, dirty_files, dirty_masks, dirty_names, dirty_tables
from tests.data.dirty import Data, cut, findings, noise, put

MODULES = (dirty_files, dirty_masks, dirty_names, dirty_tables, dirty_classes, dirty_coco)
CASES = [
    pytest.param(case, id=f"{module.__name__.rpartition('_')[2]}: {case.name}")
    for module in MODULES
    for case in module.CASES
]
# What keeps `data check` from calling data fit for training, but is left to whoever trains.
ONLY_CHECKED = "so scores would be too good"


@pytest.fixture(scope="module")
def program():
    """The command line, built once instead of once per command."""
    return typer.main.get_command(main.app)


@pytest.fixture
def call(capsys, monkeypatch, program):
    """Runs a command; returns its exit code, stdout and stderr."""
    monkeypatch.setattr(main, "app", program)

    def command(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as caught:
            main.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return caught.value.code, captured.out, captured.err

    return command


def errors_of(case, root: Path) -> list[str]:
    texts = [text.partition(": ")[2] for text in case.findings if not text.startswith("warning")]
    return [text.replace("DATA", str(root)) for text in texts]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data set"


# Nothing is wrong with them, but nothing can be trained and validated with them.
NO_TRAINING_DATA = {"no train split", "one sample"}


@pytest.mark.parametrize("case", CASES)
def test_what_is_found(case, root, call, tmp_path):
    case.spoil(Data.clean(root))
    assert findings(root) == case.findings

    errors = errors_of(case, root)
    code, shown, refused = call("data", "check", root)
    assert code == (2 if errors or case.name in NO_TRAINING_DATA else 0)
    for text in case.findings:
        assert text.partition(": ")[2].replace("DATA", str(root)) in shown + refused

    if any(ONLY_CHECKED not in error for error in errors):
        code, shown, refused = call("train", root, "--model", "tiny", "--output", tmp_path / "run", "--device", "cpu")
        told = [line for line in refused.splitlines() if not line.startswith("Warning: ")]
        assert (code, shown) == (2, "")
        assert "\n".join(told).startswith(f"Error: {errors[0]}")
        assert not (tmp_path / "run").exists()


def test_there_are_many_cases_of_different_names():
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names) >= 200


@pytest.mark.parametrize("case", [case for case in CASES if case.id.startswith("files")])
def test_files_are_read_alike_on_their_own(case, root):
    """What the check says of a file is what reading it says, byte for byte."""
    case.spoil(Data.clean(root))
    for problem in check_data(open_data(root), full=True).errors:
        if problem.kind == "unreadable":
            with pytest.raises(InputError) as caught:
                (read_mask if "masks" in problem.path else read_image)(Path(problem.path))
            assert str(caught.value) == problem.message


def test_a_file_that_may_not_be_read(root, call):
    data = Data.clean(root)
    data.image().chmod(0)
    if os.access(data.image(), os.R_OK):
        pytest.skip("this user may read everything")
    assert findings(root) == ["error: DATA/train/images/1.png may not be read. Check its permissions."]
    assert call("data", "check", root)[0] == 2


def test_a_folder_that_may_not_be_read(root, call):
    data = Data.clean(root)
    data.image().parent.chmod(0)
    try:
        if os.access(data.image().parent, os.R_OK):
            pytest.skip("this user may read everything")
        assert findings(root) == [
            "refused: The folder DATA/train/images cannot be read (Permission denied). Check its permissions."
        ]
    finally:
        data.image().parent.chmod(0o755)


@pytest.mark.parametrize("failure", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_disk_that_refuses(root, monkeypatch, failure):
    """As the two tests above, for users who may read everything."""
    data = Data.clean(root)

    def refuse(*args, **kwargs):
        raise failure

    monkeypatch.setattr(Image, "open", refuse)
    expected = {
        13: f"{data.image()} may not be read. Check its permissions.",
        5: f"{data.image()} cannot be read (Input/output error). Check the path and the disk.",
    }
    for read in (read_image, read_mask, read_image_size):
        with pytest.raises(InputError) as caught:
            read(data.image())
        assert str(caught.value) == expected[failure.errno]
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError) as caught:
        open_data(root)
    assert str(caught.value) == f"The folder {root} cannot be read ({failure.strerror}). Check its permissions."


def test_an_image_that_does_not_fit_into_memory(root, monkeypatch):
    data = Data.clean(root)

    def refuse(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", refuse)
    with pytest.raises(InputError) as caught:
        read_image(data.image())
    assert str(caught.value) == f"{data.image()} does not fit into memory. Cut it into tiles."


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "{tmp}/none does not exist. Give a folder or a CSV file. Expected"),
        ("x" * 300, "{tmp}/" + "x" * 300 + " does not exist. Give a folder or a CSV file. Expected"),
        ("loop", "{tmp}/loop does not exist. Give a folder or a CSV file. Expected"),
        ("photo.png", "{tmp}/photo.png is neither a folder nor a CSV or COCO file. Expected"),
        ("empty", "{tmp}/empty has no data set layout that is known. Expected"),
    ],
)
def test_data_that_are_none(name, message, tmp_path, call):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    put(tmp_path / "photo.png", noise(1))
    code, out, err = call("data", "check", tmp_path / name)
    assert (code, out) == (2, "")
    assert err.startswith("Error: " + message.format(tmp=tmp_path))


def test_a_table_named_itself(root):
    Data.clean(root).table("image,label\ntrain/images/0.png,train/masks/0.png\n", "list.csv")
    assert findings(root / "list.csv", root) == []


def test_warnings_of_pillow_stay_out_of_sight(root):
    """They name no file; in a process of its own, because pytest shows all warnings."""
    data = Data.clean(root)
    cut(data.put_image(noise(5), ".tif", compression="tiff_lzw"))
    command = "import sys; from convlora.data.images import read_image; read_image(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", command, data.image("1.tif")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "is a TIFF file that is damaged" in done.stderr
    assert "Warning" not in done.stderr


def test_thousands_of_classes_are_a_short_table(root, call):
    case = next(case for case in dirty_classes.CASES if case.name == "5,000 classes")
    case.spoil(Data.clean(root))
    code, out, _ = call("data", "check", root)
    assert code == 0
    assert len(out.splitlines()) < 100
    report = json.loads(call("data", "check", root, "--json")[1])
    assert len(report["class_pixels"]["train"]) == 5000
