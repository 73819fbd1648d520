"""Bad and odd data, and what a user is told about them; the cases stand in `dirty_*.py`.

What is asserted is the severity, the kind of problem, the file, and the facts. Whole sentences stand in
`test_sentences.py` alone, so that words can be improved.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from convlora.cli import main
from convlora.data.checking import reach
from convlora.data.checking.check import check_data
from convlora.data.reading.images import read_image, read_image_size, read_mask
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from tests.data import dirty_classes, dirty_coco, dirty_files, dirty_masks, dirty_names, dirty_tables
from tests.data.dirty import Data, cut, findings, noise, put, refused, unlike
from tests.data.dirty import error as error_of

MODULES = (dirty_files, dirty_masks, dirty_names, dirty_tables, dirty_classes, dirty_coco)
CASES = [
    pytest.param(case, id=f"{module.__name__.rpartition('_')[2]}: {case.name}")
    for module in MODULES
    for case in module.CASES
]


@pytest.fixture(scope="module")
def program():
    """The command line, built once instead of once per command."""
    return typer.main.get_command(main.app)


@pytest.fixture
def call(capsys, monkeypatch, program):
    """Runs a command; returns its exit code, stdout and stderr.

    What image sizes can reach is told for sizes near those of these images; for others it takes most of the time.
    """
    monkeypatch.setattr(main, "app", program)
    monkeypatch.setattr(reach, "SIZES", (16, 32, 64))

    def command(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as caught:
            main.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return caught.value.code, captured.out, captured.err

    return command


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data set"


# Nothing is wrong with them, but nothing can be trained and validated with them.
NO_TRAINING_DATA = {"no train split", "one sample"}


@pytest.mark.parametrize("case", CASES)
def test_what_is_found(case, root, call, tmp_path):
    case.spoil(Data.clean(root))
    found = findings(root)
    assert unlike(found, case.findings) == []

    errors = [one for one in found if one.severity != "warning"]
    code, shown, told = call("data", "check", root)
    assert code == (2 if errors or case.name in NO_TRAINING_DATA else 0)
    for one in found:
        assert one.message.replace("DATA", str(root)) in shown + told

    # What is the same in two splits keeps `data check` from calling data fit, but is left to whoever trains.
    if any(one.kind != "duplicate-image" for one in errors):
        code, shown, told = call("train", root, "--model", "tiny", "--output", tmp_path / "run", "--device", "cpu")
        lines = [line for line in told.splitlines() if not line.startswith("Warning: ")]
        assert (code, shown) == (2, "")
        assert "\n".join(lines).startswith("Error: " + errors[0].message.replace("DATA", str(root)))
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
        pytest.skip("this user, such as root, may read files without permission to")
    assert unlike(findings(root), [error_of("unreadable", "train/images/1.png", "permissions")]) == []
    assert call("data", "check", root)[0] == 2


def test_a_folder_that_may_not_be_read(root, call):
    data = Data.clean(root)
    data.image().parent.chmod(0)
    try:
        if os.access(data.image().parent, os.R_OK):
            pytest.skip("this user, such as root, may read files without permission to")
        assert unlike(findings(root), [refused("train/images", "Permission denied", "permissions")]) == []
    finally:
        data.image().parent.chmod(0o755)


@pytest.mark.parametrize(
    ("failure", "facts"),
    [
        (PermissionError(13, "Permission denied"), ["permissions"]),
        (OSError(5, "Input/output error"), ["Input/output error", "disk"]),
    ],
)
def test_a_disk_that_refuses(root, monkeypatch, failure, facts):
    """As the two tests above, for users who may read everything."""
    data = Data.clean(root)

    def refuse(*args, **kwargs):
        raise failure

    monkeypatch.setattr(Image, "open", refuse)
    for read in (read_image, read_mask, read_image_size):
        with pytest.raises(InputError) as caught:
            read(data.image())
        assert all(fact in str(caught.value) for fact in (str(data.image()), *facts))
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError) as caught:
        open_data(root)
    assert str(root) in str(caught.value)
    assert failure.strerror in str(caught.value)


def test_an_image_that_does_not_fit_into_memory(root, monkeypatch):
    data = Data.clean(root)

    def refuse(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", refuse)
    with pytest.raises(InputError, match=f"^{re.escape(str(data.image()))} .*memory.* tiles"):
        read_image(data.image())


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("none", "does not exist"),
        ("x" * 300, "does not exist"),
        ("loop", "does not exist"),
        ("photo.png", "neither a folder nor a CSV or COCO file"),
        ("empty", "layout"),
    ],
)
def test_data_that_are_none(name, fact, tmp_path, call):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    put(tmp_path / "photo.png", noise(1))
    code, out, err = call("data", "check", tmp_path / name)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {tmp_path / name} ")
    assert fact in err
    assert "{train,val,test}/{images,masks}/" in err, "what was expected"


def test_a_table_named_itself(root):
    Data.clean(root).table("image,label\ntrain/images/0.png,train/masks/0.png\n", "list.csv")
    assert findings(root / "list.csv", root) == []


def test_warnings_of_pillow_stay_out_of_sight(root):
    """They name no file; in a process of its own, because pytest shows all warnings."""
    data = Data.clean(root)
    cut(data.put_image(noise(5), ".tif", compression="tiff_lzw"))
    command = "import sys; from convlora.data.reading.images import read_image; read_image(sys.argv[1])"
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
