import pytest
import torch
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.maskformer.modeling_maskformer import MaskFormerForInstanceSegmentationOutput

from convlora import SamForSemanticSegmentation
from convlora.models.semantic_maps import bands, class_scores
from tests.helpers.models import tiny_sam
from tests.helpers.tolerances import BY_DTYPE


def segmenter(**task):
    torch.manual_seed(0)
    return SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=64, **({"num_classes": 5} | task)).eval()


def exact():
    return BY_DTYPE[torch.float32]._asdict()


def test_all_tokens_begin_as_sams_own_mask():
    binary, several = segmenter(num_classes=2), segmenter()
    with torch.no_grad():
        several.mask_decoder.mask_tokens.weight[:] = several.mask_decoder.mask_tokens.weight[0]
    pixels = torch.randn(2, 3, 64, 64)
    masks = several(pixels).mask_logits
    assert masks.shape == (2, 5, 16, 16)
    for token in range(1, 5):
        torch.testing.assert_close(masks[:, token], masks[:, 0], **exact())
    assert binary(pixels).logits.shape == (2, 2, 64, 64)


@pytest.mark.parametrize("head", ["mask-classification", "per-pixel"])
def test_every_part_of_the_decoder_learns(head):
    model = segmenter(head=head).train()
    model.vision_encoder.requires_grad_(False)
    labels = torch.randint(0, 5, (2, 64, 64))
    labels[0, :10] = 255
    model(torch.randn(2, 3, 64, 64), labels=labels).loss.backward()
    for name, parameter in model.mask_decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0 or name.endswith("k_proj.bias"), name


def test_the_semantic_map_is_that_of_transformers():
    torch.manual_seed(0)
    masks, classes = torch.randn(2, 6, 8, 10), torch.randn(2, 6, 4)
    output = MaskFormerForInstanceSegmentationOutput(masks_queries_logits=masks, class_queries_logits=classes)
    processor = Mask2FormerImageProcessorPil()
    expected = processor.post_process_semantic_segmentation(output)  # at its fixed size of 384 x 384
    enlarged = torch.nn.functional.interpolate(masks, size=(384, 384), mode="bilinear", align_corners=False)
    for image in range(2):
        ours = class_scores(enlarged[image], classes[image]).argmax(dim=0)
        assert torch.equal(ours, expected[image])


@pytest.mark.parametrize("size", [(40, 30), (7, 9), (64, 64), (101, 33)])
@pytest.mark.parametrize("named", [True, False])
def test_bands_are_the_whole_cut_in_pieces(monkeypatch, size, named):
    torch.manual_seed(0)
    masks, classes = torch.randn(6, 16, 12), torch.randn(6, 5) if named else None
    whole = torch.nn.functional.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]
    monkeypatch.setattr("convlora.enlarge.BAND_VALUES", 6 * size[1] * 5)
    pieces = list(bands(masks, classes, size))
    assert len(pieces) == -(-size[0] // 5)
    torch.testing.assert_close(torch.cat([scores for _, scores in pieces], 1), class_scores(whole, classes), **exact())


def test_it_can_be_saved_and_loaded(tmp_path):
    model = segmenter(num_mask_tokens=7)
    model.save_pretrained(tmp_path)
    loaded = SamForSemanticSegmentation.from_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 64, 64)
    assert loaded(pixels).mask_logits.shape == (1, 7, 16, 16)
    assert torch.equal(loaded(pixels).logits, model(pixels).logits)


@pytest.mark.parametrize(
    ("task", "message"),
    [({"num_classes": 1}, "at least 2"), ({"head": "binary"}, "two classes"), ({"head": "cat"}, "one of auto"),
     ({"num_mask_tokens": 0}, "at least 1")],
)  # fmt: skip
def test_impossible_tasks_are_refused(task, message):
    with pytest.raises(ValueError, match=message):
        segmenter(**task)


def test_a_small_task_can_be_learnt_by_either_head():
    """Three classes that differ in colour."""
    torch.manual_seed(0)
    labels = torch.arange(3).repeat_interleave(22)[:64].expand(64, -1).expand(1, -1, -1).clone()
    colours = torch.tensor([[-1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.5]])
    pixels = colours[labels].permute(0, 3, 1, 2) + 0.1 * torch.randn(1, 3, 64, 64)
    for head in ("mask-classification", "per-pixel"):
        model = segmenter(num_classes=3, head=head).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(120):
            optimizer.zero_grad()
            model(pixels, labels=labels).loss.backward()
            optimizer.step()
        with torch.no_grad():
            out = model.eval()(pixels)
        classes = None if out.class_logits is None else out.class_logits[0]
        found = torch.cat([one for _, one in bands(out.mask_logits[0], classes, (64, 64))], dim=1).argmax(dim=0)
        assert (found == labels[0]).float().mean() > 0.9, head


def test_memory_of_many_classes_is_bounded():
    """150 classes and 100 tokens at 1024 pixels: no tensor of all of them at full size, 630 MB, is ever made."""
    masks, classes = torch.randn(100, 256, 256), torch.randn(100, 151)
    largest = max(scores.numel() for _, scores in bands(masks, classes, (1024, 1024)))
    assert largest <= 1 << 25
