"""`convlora inspect RUN DATA` and its page."""

import json
import re
import shutil

import pytest
import yaml

import convlora as package
from convlora.errors import InputError
from tests.helpers.figures import drawn


@pytest.fixture(scope="module")
def inspected(trained_run, blobs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspected") / "out"
    with drawn():
        return package.inspect_run(trained_run, blobs, output=folder, images=2), folder


def test_the_page_has_every_section(inspected, trained_run):
    found, folder = inspected
    text = (folder / "inspect.html").read_text(encoding="utf-8")
    assert found["page"] == str(folder / "inspect.html")
    assert (found["split"], len(found["images"])) == ("test", 2)
    assert text.count("<svg") == 6, "distances, shares, two of training, updates, receptive field"
    assert text.count("data:image/jpeg") == 2 * 2 + 2 * 4, "what two layers choose, and the detail branch"
    assert "Left out" not in text
    assert "The heads of block 2 can see the whole image" in text
    assert "window of 48 x 48 pixels" in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert not re.findall(r"\bnan\b", text)


def test_what_was_measured(inspected):
    found, _ = inspected
    assert [len(heads) for heads in found["attention_distance"]["adapted"].values()] == [2, 2]
    assert max(map(max, found["attention_distance"]["base"].values())) < 64 * 2**0.5
    assert all(sum(shares.values()) == pytest.approx(1) for shares in found["expert_shares"].values())
    assert found["update_sizes"].keys() == {"1", "2"}
    assert all(size > 0 for size in found["update_sizes"].values())
    assert found["weight_updates"] is None
    assert 0 < found["receptive_field"]["base"]["0.5"] < found["receptive_field"]["base"]["0.9"]
    assert found["detail_share"]["share"] > 0


def test_the_log_tells_what_the_gates_chose(trained_run):
    lines = [json.loads(line) for line in (trained_run / "log.jsonl").read_text().splitlines()]
    for line in lines:
        assert len(line["expert_shares"]) == 8
        assert sum(line["expert_shares"]) == pytest.approx(1, abs=1e-3)
        assert 0 <= line["expert_entropy"] <= 1


def test_the_command(convlora, trained_run, blobs, tmp_path):
    """Into the run folder; this run is as of an older version, without a record of its experts."""
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    old = [{key: value for key, value in line.items() if not key.startswith("expert")} for line in lines]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    code, out, _ = convlora("inspect", run, blobs, "--images", 1)
    assert code == 0
    assert f"Look at {run / 'inspect.html'}" in out
    text = (run / "inspect.html").read_text(encoding="utf-8")
    assert "says nothing about the experts" in text
    assert text.count("<svg") == 4


@pytest.mark.parametrize(
    ("option", "value"), [("--output", "x"), ("--images", 2), ("--model", "x"), ("--device", "cpu")]
)
def test_options_of_the_page_need_data(convlora, trained_run, option, value):
    code, _, told = convlora("inspect", trained_run, option, value)
    assert code == 2
    assert f"convlora inspect RUN DATA {option} {value}" in " ".join(told.split())


def test_what_is_refused(trained_run, blobs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["method"] = {"name": "unet", "width": 8}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(InputError, match="U-Net"):
        package.inspect_run(run, blobs)
    assert not (run / "inspect.html").exists()
    with pytest.raises(InputError, match=r"^images must"):
        package.inspect_run(trained_run, blobs, images=0)
    with pytest.raises(InputError, match="with output"):
        package.inspect_run("hf:user/name", blobs)
    with pytest.raises(InputError, match="nowhere"):
        package.inspect_run(trained_run, tmp_path / "nowhere")
