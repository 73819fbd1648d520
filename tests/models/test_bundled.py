import pytest
import torch
from transformers import SamModel

from convlora import SamForSemanticSegmentation
from convlora.models.bundled import BUNDLED, resolve_bundled

FOLDER = BUNDLED["tiny"]


def test_it_is_small_and_described():
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    assert size < 12e6
    files = {path.name for path in FOLDER.iterdir()}
    assert files == {"config.json", "model.safetensors", "detail.safetensors", "detail-full.safetensors", "README.md"}
    card = (FOLDER / "README.md").read_text()
    for part in ("license: apache-2.0", "## Data", "## Recipe", "## Scores", "## Limits"):
        assert part in card


def test_plain_transformers_loads_every_weight():
    model, info = SamModel.from_pretrained(FOLDER, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert 3e6 < sum(p.numel() for p in model.parameters()) < 6e6


def test_it_answers_a_box_prompt_with_what_is_in_the_box():
    """A bright disc on a dark, uneven ground: as easy as it gets."""
    sam = SamModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
    rows, columns = torch.arange(256)[:, None], torch.arange(256)[None]
    for x, y in ((90, 120), (160, 150)):
        disc = (rows - y) ** 2 + (columns - x) ** 2 < 45**2
        ground = 0.2 + 0.05 * torch.sin(columns / 9.0) * torch.cos(rows / 13.0)
        grey = torch.where(disc, 0.75, ground)
        pixels = ((grey - 0.45) / 0.225).expand(1, 3, -1, -1)
        box = torch.tensor([[[x - 45.0, y - 45.0, x + 45.0, y + 45.0]]])
        with torch.no_grad():
            logits = sam(pixel_values=pixels, input_boxes=box, multimask_output=False).pred_masks[0, 0, 0]
        found = torch.nn.functional.interpolate(logits[None, None], size=(256, 256), mode="bilinear")[0, 0] > 0
        assert ((found & disc).sum() / (found | disc).sum()) > 0.8


def test_it_is_meant_by_its_name_only():
    model = SamForSemanticSegmentation.from_pretrained("tiny")
    assert model.config.image_size == 256 or tuple(model.config.image_size) == (256, 256)
    assert model.config._name_or_path == "tiny"
    assert resolve_bundled("./tiny") == "./tiny"
    with pytest.raises(Exception, match=r"config\.json"):
        SamForSemanticSegmentation.from_pretrained(FOLDER.parent)


def test_it_computes_in_single_precision_unless_told():
    model = SamForSemanticSegmentation.from_pretrained("tiny", num_classes=2, image_size=64)
    assert model(torch.randn(1, 3, 64, 64)).logits.dtype == torch.float32
    assert SamForSemanticSegmentation.from_pretrained("tiny", dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("detail", ["half", "full"])
def test_its_detail_branches_are_pretrained(detail):
    """Other weights than those that a branch is drawn with, which differ from one time to the next."""
    one, two = (SamForSemanticSegmentation.from_pretrained("tiny", detail=detail).mask_decoder.detail for _ in "ab")
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
