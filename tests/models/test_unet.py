"""The U-Net has the interface of the SAM segmenter; that it trains as other methods do is in the battery."""

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation

from convlora.losses import per_pixel_loss, segmentation_loss
from convlora.models import UNetForSemanticSegmentation, UNetSegmentationConfig


def unet(**settings):
    return UNetForSemanticSegmentation(UNetSegmentationConfig(width=8, image_size=(32, 48), **settings))


def test_the_default_is_monais_basic_unet():
    model = UNetForSemanticSegmentation(UNetSegmentationConfig())
    widths = [model.network.get_submodule(f"{name}.convs.conv_0.conv").out_channels for name in ("down_1", "down_4")]
    assert widths == [32, 256]
    assert model.config.image_size == [256, 256]
    assert not list(model.buffers()), "no running means: training and prediction compute the same"


@pytest.mark.parametrize("loss", ["structure", "bce-dice"])
def test_the_binary_loss_is_that_of_the_settings(loss):
    model, pixels = unet(loss=loss), torch.randn(2, 3, 32, 48)
    labels = (pixels[:, 0] > 0).long()
    labels[0, :5] = 255
    output = model(pixels, labels=labels)
    assert output.logits.shape == (2, 2, 32, 48)
    torch.testing.assert_close(output.loss, segmentation_loss(loss, output.foreground, labels, 255))
    with pytest.raises(ValueError, match="7"):
        model(pixels, labels=labels.masked_fill(labels == 1, 7))


@pytest.mark.parametrize("classes", [2, 4])
def test_classes_that_compete(classes):
    model, pixels = unet(num_classes=classes, head="per-pixel").eval(), torch.randn(1, 3, 32, 48)
    model.class_weights = torch.linspace(1, 2, classes)
    labels = torch.randint(0, classes, (1, 32, 48))
    output = model(pixels, labels=labels)
    assert output.mask_logits.shape == (1, classes, 32, 48)
    torch.testing.assert_close(output.logits, output.mask_logits.log_softmax(dim=1), atol=1e-5, rtol=1e-5)
    expected = per_pixel_loss(output.mask_logits, labels, class_weights=model.class_weights)
    torch.testing.assert_close(output.loss, expected)
    assert torch.equal(model.train()(pixels).logits, output.logits)
    model.logits_in_training = False
    assert model(pixels).logits is None


def test_an_image_is_segmented_alike_alone_and_among_others():
    model, pixels = unet().train(), torch.randn(3, 3, 32, 48)
    with torch.no_grad():
        together = model(pixels).logits
        torch.testing.assert_close(model(pixels[1:2]).logits, together[1:2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.eval()(pixels).logits, together, atol=1e-5, rtol=1e-5)


def test_it_is_saved_and_loaded_whole(tmp_path):
    model, pixels = unet(num_classes=3).eval(), torch.randn(1, 3, 32, 48)
    model.save_pretrained(tmp_path)
    again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert isinstance(again, UNetForSemanticSegmentation)
    assert torch.equal(again(pixels).logits, model(pixels).logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": (33, 48)}, "must be divisible by 16, got 33 x 48. Nearest that is: 32 x 48"),
        ({"width": 12}, "multiple of 8"),
        ({"num_classes": 1}, "at least 2"),
        ({"head": "mask-classification"}, "auto, binary or per-pixel"),
        ({"head": "binary", "num_classes": 3}, "for two classes"),
        ({"loss": "magic"}, "loss must be one of"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        UNetSegmentationConfig(**settings)
