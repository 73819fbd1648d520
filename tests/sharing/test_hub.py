"""Runs that are pushed to the Hub and used from there, with a stand-in for the Hub."""

import getpass
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import convlora
from convlora.errors import InputError
from convlora.inference.segmenter import Segmenter
from convlora.runs.hub import hub_run, resolve_run
from convlora.training.config import RunConfig
from convlora.training.earlier import find_earlier
from tests.helpers.hub import Repository, hub
from tests.inference.test_saved_runs import SAVED

VERSION = SAVED / "0.1.0"
TOKEN = "hf_" + "x" * 34
WEIGHTS = "adapter/adapter_model.safetensors"


@pytest.fixture
def run(tmp_path):
    """A run whose files tell where it was made."""
    folder = tmp_path / "secret-place" / "run"
    shutil.copytree(VERSION / "conv-lora", folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings["data"]["path"] = str(tmp_path / "secret-place" / "patients")
    settings["model"]["source"] = str(tmp_path / "secret-place" / "my-sam")
    settings["model"]["from_run"] = str(tmp_path / "secret-place" / "first-run")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    adapter = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    adapter["base_model_name_or_path"] = settings["model"]["source"]
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    for name in ("samples.json", "skipped.json", "report.html"):
        (folder / name).write_text("secret")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "model.safetensors").write_text("secret")
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    with hub() as site:
        files = site.url + "/{repo_id}/resolve/{revision}/{filename}"
        changed = {"HF_HUB_OFFLINE": False, "ENDPOINT": site.url, "HUGGINGFACE_CO_URL_TEMPLATE": files}
        for name, value in {**changed, "HF_HOME": str(tmp_path / "home")}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        close_session()
        yield site
    close_session()


def offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def pushed(run, site):
    convlora.push(run, "me/cells")
    return site.repositories["me/cells"]


def test_what_is_uploaded_is_what_is_needed_and_tells_nothing(run, site, pushed):
    assert set(pushed.files) == {
        "README.md",
        "config.yaml",
        "classes.json",
        "metrics.json",
        "adapter/adapter_config.json",
        WEIGHTS,
    }
    everything = b"".join(pushed.files.values())
    for word in ("secret", "patients", str(Path.home()) + "/", str(run.parent)):
        assert word.encode() not in everything, word
    if len(getpass.getuser()) > 4:
        assert getpass.getuser().encode() not in everything
    assert pushed.private
    assert site.tokens == {f"Bearer {TOKEN}"}
    settings = yaml.safe_load(pushed.files["config.yaml"])
    assert settings["data"]["path"] is None
    assert settings["model"]["source"] == "my-sam"
    header = yaml.safe_load(pushed.files["README.md"].decode().split("---")[1])
    assert "base_model" not in header
    assert "license" not in header
    assert {"convlora", "peft", "sam", "conv-lora"} <= set(header["tags"])


def test_the_card_names_base_model_and_licence(run):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["model"]["source"] = "facebook/sam-vit-base"
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    result = convlora.push(run, "me/cells", license="cc-by-4.0", revision="v1", dry_run=True)
    header = yaml.safe_load(result["card"].split("---")[1])
    assert header["base_model"] == "facebook/sam-vit-base"
    assert header["license"] == "cc-by-4.0"
    assert "convlora predict hf:me/cells@v1 photos/" in result["card"]
    assert "| test | 0.0235 |" in result["card"]


def test_a_dry_run_asks_nobody(run, site):
    result = convlora.push(run, "me/cells", dry_run=True)
    assert site.asked == []
    assert sum(one["bytes"] for one in result["files"]) > (run / WEIGHTS).stat().st_size


def test_training_that_begins_with_a_run_of_the_hub_names_its_commit(site, pushed, tmp_path):
    """So that it can be repeated; the same command resumes it, whatever the branch is by then."""
    commit = site.repositories["me/cells"].branches["main"]
    config = RunConfig()
    config.model.from_run = "hf:me/cells"
    earlier = find_earlier(config, tmp_path / "new", resume=False)
    assert config.model.from_run == earlier.name == f"hf:me/cells@{commit}"
    assert (config.method.name, config.model.source) == ("conv-lora", "my-sam")
    (tmp_path / "new" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "new" / "checkpoints" / "checkpoint-1" / "trainer_state.json").touch()
    config.save(tmp_path / "new" / "config.yaml")
    pushed.commit("main", {})
    again = RunConfig()
    again.model.from_run = "hf:me/cells"
    assert find_earlier(again, tmp_path / "new", resume=True) is None
    assert again.model.from_run == config.model.from_run


@pytest.mark.processes
def test_used_from_the_hub_by_another_process(run, site, pushed, tmp_path):
    """Which gives the same mask without the run, also when the Hub is gone."""
    image = VERSION / "images" / "cells.png"
    expected = Segmenter.from_run(run, model=VERSION / "sam", device="cpu", precision="fp32").predict(image)
    shutil.rmtree(run)
    command = [sys.executable, "-m", "convlora.cli.main", "predict", "hf:me/cells", str(image), "--plain"]
    command += ["--model", str(VERSION / "sam"), "--device", "cpu", "--precision", "fp32", "--json", "--output"]
    there = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": site.url}
    for name, variables in (("first", {"HF_HUB_OFFLINE": "0"}), ("second", {"HF_HUB_OFFLINE": "1"})):
        asked = len(site.asked)
        done = subprocess.run(
            [*command, str(tmp_path / name)], env=os.environ | there | variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["run"] == "hf:me/cells"
        mask = np.asarray(Image.open(tmp_path / name / "cells.png"))
        np.testing.assert_array_equal(mask, expected.semantic_map)
        assert (len(site.asked) > asked) == (name == "first")
    downloaded = [path for path in (tmp_path / "home" / "convlora").rglob("*") if path.name != "lock"]
    assert not any(path.is_symlink() for path in downloaded)
    assert not any(path.name == ".cache" for path in downloaded)


def test_large_files_go_by_lfs(run, site, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    site.large = ".safetensors"
    convlora.push(run, "me/cells")
    assert site.repositories["me/cells"].files[WEIGHTS] == (run / WEIGHTS).read_bytes()
    assert len(site.stored) == 1


def test_revisions(run, site, pushed):
    first = resolve_run("hf:me/cells")
    metrics = json.loads((run / "metrics.json").read_text()) | {"best_epoch": 1}
    (run / "metrics.json").write_text(json.dumps(metrics))
    convlora.push(run, "me/cells", revision="other")
    assert resolve_run("hf:me/cells") == first
    assert resolve_run("hf:me/cells@other") == resolve_run(f"hf:me/cells@{pushed.branches['other']}") != first
    with pytest.raises(InputError, match="no such branch"):
        resolve_run("hf:me/cells@none")


def test_an_earlier_run_leaves_nothing(run, site, pushed):
    pushed.commit("main", pushed.files | {"sam.json": b"{}", "sam/config.json": b"{}", "notes.txt": b"mine"})
    convlora.push(run, "me/cells")
    assert "notes.txt" in pushed.files
    assert {"sam.json", "sam/config.json"} & set(pushed.files) == set()


def test_a_picture_goes_only_if_asked_for(run, site, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "secret"
    Image.new("RGB", (3000, 20), "red").save(tmp_path / "overlay.jpg", exif=exif)
    convlora.push(run, "me/cells", picture=tmp_path / "overlay.jpg")
    files = site.repositories["me/cells"].files
    assert b"secret" not in files["picture.png"]
    assert b"![Result](picture.png)" in files["README.md"]


def test_a_sam_in_the_run_goes_with_it(run, site, tmp_path, monkeypatch):
    shutil.copytree(VERSION / "sam", run / "sam")
    described = json.loads((run / "sam" / "config.json").read_text()) | {"_name_or_path": "secret/sam"}
    (run / "sam" / "config.json").write_text(json.dumps(described))
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["model"]["source"] = str(run / "sam")
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    expected = Segmenter.from_run(run, device="cpu").predict(VERSION / "images" / "cells.png")
    convlora.push(run, "me/cells")
    files = site.repositories["me/cells"].files
    assert {"sam/config.json", "sam/model.safetensors"} <= set(files)
    assert b"secret" not in files["sam/config.json"]
    shutil.rmtree(run)
    (tmp_path / "sam").mkdir()  # something else of that name
    monkeypatch.chdir(tmp_path)
    found = Segmenter.from_run("hf:me/cells", device="cpu").predict(VERSION / "images" / "cells.png")
    np.testing.assert_array_equal(found.semantic_map, expected.semantic_map)


def test_links_are_not_followed(run, tmp_path):
    (tmp_path / "key").write_text('{"secret": 1}')
    (run / "adapter" / "adapter_config.json").unlink()
    (run / "adapter" / "adapter_config.json").symlink_to(tmp_path / "key")
    with pytest.raises(InputError, match="a link"):
        convlora.push(run, "me/cells", dry_run=True)


@pytest.mark.parametrize(("there", "public"), [(False, False), (True, True)])
def test_visibility_has_to_agree(run, site, there, public):
    site.repositories["me/cells"] = Repository(private=there)
    with pytest.raises(InputError, match="is there already and is " + ("private" if there else "public")):
        convlora.push(run, "me/cells", public=public)
    assert site.repositories["me/cells"].files == {}


def test_no_token(run, site, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="There is no token"):
        convlora.push(run, "me/cells")
    assert site.asked == []


@pytest.mark.parametrize("status", [401, 403, 500])
def test_refusals_are_told(run, site, status):
    site.status = status
    with pytest.raises(InputError) as caught:
        convlora.push(run, "me/cells")
    assert {401: "hf auth login", 403: "may write", 500: "500"}[status] in str(caught.value)


def test_without_the_hub(run, site, pushed, monkeypatch):
    folder = resolve_run("hf:me/cells")
    offline(monkeypatch)
    assert resolve_run("hf:me/cells") == folder
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        resolve_run("hf:me/other")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        convlora.push(run, "me/cells")


def test_no_connection(run, site, pushed, monkeypatch, caplog):
    from huggingface_hub import constants

    folder = resolve_run("hf:me/cells")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert resolve_run("hf:me/cells") == folder
    assert "downloaded last" in caplog.text
    for call in (lambda: convlora.push(run, "me/cells"), lambda: resolve_run("hf:me/other")):
        with pytest.raises(InputError, match="cannot be reached"):
            call()


@pytest.mark.parametrize("name", ["cells", "me/cells/more", "me/a b", "../x", "me/--x", "/me/x", "me/x@y"])
def test_names_that_cannot_be(run, name):
    with pytest.raises(InputError, match="USER/NAME"):
        convlora.push(run, name, dry_run=True)


@pytest.mark.parametrize(
    "name", ["hf:", "hf:cells", "hf:me/cells@", "hf:me/cells@../..", "hf:a/../b", "hf:me/cells@/x"]
)
def test_runs_that_cannot_be(name):
    with pytest.raises(InputError, match="does not name a run"):
        hub_run(name)


@pytest.mark.parametrize(
    ("added", "removed", "said"),
    [
        ({"adapter/adapter_model.bin": b"pickle"}, WEIGHTS, "pickles are never read"),
        ({"../x": b"x"}, None, "leads elsewhere"),
        ({"/etc/x": b"x"}, None, "leads elsewhere"),
        ({}, "config.yaml", "not a run of convlora"),
    ],
)
def test_hostile_repositories(site, pushed, tmp_path, added, removed, said):
    pushed.commit("main", {name: value for name, value in (pushed.files | added).items() if name != removed})
    with pytest.raises(InputError, match=said):
        resolve_run("hf:me/cells")
    assert not list((tmp_path / "home").rglob("*.*"))


@pytest.mark.parametrize(("name", "size"), [(WEIGHTS, 9 << 30), ("config.yaml", 17 << 20), ("config.yaml", 3)])
def test_sizes_that_are_claimed(site, pushed, tmp_path, name, size):
    site.claimed[name] = size
    with pytest.raises(InputError, match="larg"):
        resolve_run("hf:me/cells")
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_other_files_stay_there(site, pushed):
    pushed.commit("main", pushed.files | {"adapter/evil.pkl": b"x", "sam/deeper/x.safetensors": b"x", "setup.py": b"x"})
    folder = resolve_run("hf:me/cells")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(pushed.files) - {"README.md", "adapter/evil.pkl", "sam/deeper/x.safetensors", "setup.py"}


def test_what_needs_a_folder_refuses(run, tmp_path, monkeypatch):
    from convlora.report.finished import report_run

    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    for call in (
        lambda: report_run(Path("hf:me/x")),
        lambda: convlora.train("DATA", "hf:me/x", model="tiny"),
        lambda: convlora.import_run("PREDICTOR", "hf:me/x"),
        lambda: convlora.push("hf:me/x", "me/y"),
    ):
        with pytest.raises(InputError, match="folder on this machine"):
            call()
    assert set(tmp_path.iterdir()) == before


def test_served_and_exported_from_the_hub(run, site, pushed, tmp_path):
    """A server calls it by the name it has there."""
    from convlora.serve.names import name_runs

    named = name_runs([Path("hf:me/cells@main"), run])
    assert list(named) == ["cells@main", "run"]
    assert (named["cells@main"] / "classes.json").is_file()
    with pytest.raises(InputError, match="Hub has no hf:me/other"):
        name_runs([Path("hf:me/other")])
    with pytest.raises(InputError, match="Hub has no hf:me/other"):
        convlora.export("hf:me/other", tmp_path / "m.pt2")
