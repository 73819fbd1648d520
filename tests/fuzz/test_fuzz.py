"""Damaged files of every kind are read or refused with a sentence; `python -m tests.fuzz 600` looks longer."""

from pathlib import Path

import pytest

from convlora.cli.failures import exit_code_for
from convlora.cli.main import app
from convlora.errors import InputError
from tests.fuzz.fuzzing import fuzz, read
from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS

CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").glob("*/*") if path.is_file())


@pytest.mark.parametrize("name", READERS)
def test_what_is_right_is_read(name, tmp_path):
    if name != "adapter":  # whose seed is the beginning of a file
        for content in READERS[name].seeds:
            assert read(name, content, tmp_path) is None
            READERS[name].read(tmp_path / READERS[name].name)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_in_words(name):
    takes_long = name in ("csv", "coco", "archive") or name.startswith("format-")
    files, found = fuzz(name, files=25 if takes_long else 80, seed=0)
    assert files
    assert found == []


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_stays_mended(path, tmp_path):
    assert read(path.parent.name, path.read_bytes(), tmp_path) is None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (KeyError("x"), "KeyError"),
        (RecursionError(), "RecursionError"),
        (InputError("bad"), "no sentence"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_the_search_can_find(monkeypatch, tmp_path, fault, said):
    def broken(path):
        raise fault

    monkeypatch.setitem(READERS, "broken", Reader("x", [b"abc"], broken))
    files, found = fuzz("broken", files=3, keep=tmp_path)
    assert files == 3
    assert len(found) == 1
    assert said in found[0]
    assert len(list((tmp_path / "broken").iterdir())) == 1


def test_memory_is_bounded(monkeypatch, tmp_path):
    monkeypatch.setitem(READERS, "greedy", Reader("x", [b"abc"], lambda path: bytearray(8 << 30)))
    assert "MemoryError" in read("greedy", b"", tmp_path)


@pytest.mark.parametrize("name", ["cvat", "labelme", "supervisely-meta", "export"])
def test_the_command_ends_with_2_and_names_the_file(tmp_path, capsys, name):
    """What the search sees as an InputError is what users see as a sentence."""
    reader = READERS[f"format-{name}"]
    damaged = tmp_path / ("export.zip" if name == "export" else f"data/{reader.name}")
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(reader.seeds[0][:60])
    form = "auto" if name == "export" else name.partition("-")[0]
    source = damaged if name == "export" else damaged.parent
    with pytest.raises(InputError) as ended:
        app(
            ["data", "convert", str(source), "--output", str(tmp_path / "made"), "--format", form],
            standalone_mode=False,
        )
    assert exit_code_for(ended.value, debug=False, command="data") == 2
    said = capsys.readouterr().err
    assert str(tmp_path) in said.replace("\n", "")
    assert "Traceback" not in said
    assert not (tmp_path / "made").exists()
