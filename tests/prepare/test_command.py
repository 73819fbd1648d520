"""`convlora data prepare` as users type it."""

import json

import pytest

from convlora.cli.main import run
from tests.prepare.conftest import tables, zipped


@pytest.fixture
def prepare(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            run(["data", "prepare", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, " ".join(captured.err.split())

    return call


def test_terms_are_shown_and_must_be_accepted(prepare, tmp_path):
    code, out, err = prepare("sbu-shadow", "--output", tmp_path / "data")
    assert (code, out) == (2, "")
    assert "Shadows (SBU), from https://www3.cs.stonybrook.edu/" in err
    assert (
        "restricts the use to research that is not commercial. If you accept the terms, give --accept-licence." in err
    )
    assert not any(tmp_path.iterdir())


def test_prepared_and_said_how_to_go_on(prepare, site, tmp_path):
    site.files["leaf_disease_segmentation.zip"] = zipped(tables())
    arguments = ("leaf", "--output", tmp_path / "data", "--accept-licence", "--mirror", site.url)
    code, out, err = prepare(*arguments)
    assert code == 0
    assert f"Fetching {site.url}/leaf_disease_segmentation.zip" in err
    assert "No checksum is known for leaf_disease_segmentation.zip" in out
    assert "is ready: 3 train, 1 val, 2 test." in out
    assert f"convlora train {tmp_path / 'data'} --config recipe:leaf --output RUN" in out
    assert "is there already: 3 train, 1 val, 2 test." in prepare(*arguments)[1]
    code, out, _ = prepare(*arguments, "--json")
    assert json.loads(out) == {"data": str(tmp_path / "data"), "counts": {"train": 3, "val": 1, "test": 2}, "notes": []}


def test_brackets_in_the_name_of_the_folder_are_no_markup(prepare, site, tmp_path):
    site.files["leaf_disease_segmentation.zip"] = zipped(tables())
    output = tmp_path / "pp[" / "b]"
    code, out, _ = prepare("leaf", "--output", output, "--accept-licence", "--mirror", site.url)
    assert code == 0
    assert f"{output} is ready" in out


def test_mistakes(prepare, site, tmp_path):
    code, _, err = prepare("poylp", "--output", tmp_path / "data")
    assert code == 2
    assert "There is no data set 'poylp' to prepare. Choose one of: camo, isic2017," in err
    code, _, err = prepare("leaf", "--output", tmp_path / "data", "--accept-licence", "--mirror", site.url)
    assert code == 2
    assert (
        "leaf_disease_segmentation.zip answers 404 (Not Found). Fetch the file by hand and give it with --from." in err
    )
    assert not (tmp_path / "data").exists()
