import pytest
import torch
from safetensors.torch import load_file, save_file

from convlora import SamForSemanticSegmentation
from convlora.errors import InputError
from convlora.models.detail import FINEST, DetailBranch
from convlora.models.detail_file import NAMES, load_detail, save_detail, settled_detail
from tests.helpers.models import tiny_sam


@pytest.fixture
def folder(tmp_path):
    sam = tiny_sam()
    sam.save_pretrained(tmp_path)
    torch.manual_seed(1)
    branch = DetailBranch(sam.config.mask_decoder_config.hidden_size, sam.config.mask_decoder_config.hidden_size // 8)
    torch.nn.init.normal_(branch.project.weight)
    save_detail(branch.half().float(), tmp_path)
    return tmp_path, branch


def test_a_branch_begins_with_the_weights_beside_its_sam(folder):
    place, saved = folder
    branch = SamForSemanticSegmentation.from_pretrained(place, detail="half").mask_decoder.detail
    for name, value in branch.state_dict().items():
        if name == "project.weight":  # a fresh model still answers as its SAM does
            assert not value.any()
        else:
            assert torch.equal(value, saved.state_dict()[name]), name
    assert branch.down[0].conv[0].weight.dtype == torch.float32


def test_a_branch_of_another_size_has_a_file_of_its_own(folder):
    place, saved = folder
    branch = SamForSemanticSegmentation.from_pretrained(place, detail="full").mask_decoder.detail
    assert not torch.equal(branch.meet.conv1[0].weight, saved.meet.conv1[0].weight)
    save_detail(branch.half().float(), place)
    again = SamForSemanticSegmentation.from_pretrained(place, detail="full").mask_decoder.detail
    assert torch.equal(branch.meet.conv1[0].weight, again.meet.conv1[0].weight)
    (place / NAMES[0]).replace(place / NAMES[1])  # a file of the wrong size is none
    half = SamForSemanticSegmentation.from_pretrained(place, detail="half").mask_decoder.detail
    assert not torch.equal(branch.meet.conv1[0].weight, half.meet.conv1[0].weight)
    assert SamForSemanticSegmentation.from_pretrained(place).mask_decoder.detail is None


def test_auto_is_the_full_size_where_a_sam_has_weights_for_it(folder):
    place, _ = folder
    assert settled_detail("auto", place) == settled_detail("auto", "someone/sam") == "half"
    assert settled_detail("auto", "a" * 5000) == "half"
    sam = tiny_sam().config.mask_decoder_config
    save_detail(DetailBranch(sam.hidden_size, sam.hidden_size // 8, finest=FINEST["full"]), place)
    assert settled_detail("auto", place) == settled_detail("auto", "tiny") == "full"
    assert settled_detail("none", "tiny") == "none"
    assert settled_detail("half", place) == "half"


def test_without_a_file_there_is_nothing_to_load(tmp_path):
    assert load_detail(DetailBranch(64, 8), tmp_path) is False


@pytest.mark.parametrize("damage", ["cut", "shape", "missing", "more"])
def test_a_damaged_file_is_refused_by_name(folder, damage):
    place, _ = folder
    file = place / NAMES[1]
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        weights = load_file(file)
        if damage == "shape":
            weights["down.0.conv.0.weight"] = weights["down.0.conv.0.weight"][:4]
        elif damage == "missing":
            del weights["down.0.conv.0.weight"]
        else:
            weights["other"] = torch.zeros(3)
        save_file(weights, file, {"finest": "1"})
    with pytest.raises(InputError, match=NAMES[1]):
        SamForSemanticSegmentation.from_pretrained(place, detail="half")


def test_a_folder_within_a_folder(folder):
    place, saved = folder
    branch = SamForSemanticSegmentation.from_pretrained(
        place.parent, subfolder=place.name, detail="half"
    ).mask_decoder.detail
    assert torch.equal(branch.meet.conv1[0].weight, saved.meet.conv1[0].weight)
