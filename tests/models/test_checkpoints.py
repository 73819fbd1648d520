"""Meta's `.pth` files, judged by Meta's own package."""

import zipfile

import pytest
import torch
import torch.nn.functional as F
from transformers import SamConfig

from convlora.errors import InputError
from convlora.models import SamForSemanticSegmentation
from convlora.models.checkpoints import load_meta_checkpoint, recognise_config
from tests.helpers.meta import modeling, sam_model_registry
from tests.helpers.tolerances import MODEL

PUBLISHED = {
    "vit_b": (768, 12, 12, [2, 5, 8, 11]),
    "vit_l": (1024, 24, 16, [5, 11, 17, 23]),
    "vit_h": (1280, 32, 16, [7, 15, 23, 31]),
}


def meta_sam(width=32, depth=2, heads=2, global_blocks=(1,), image_size=64, window=3, features=32, mlp_ratio=4):
    """Meta's own classes, wired as its `build_sam` does, with every weight drawn at random."""
    grid = image_size // 16
    model = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            depth=depth,
            embed_dim=width,
            img_size=image_size,
            mlp_ratio=mlp_ratio,
            norm_layer=lambda n: torch.nn.LayerNorm(n, eps=1e-6),
            num_heads=heads,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=list(global_blocks),
            window_size=window,
            out_chans=features,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=features, image_embedding_size=(grid, grid), input_image_size=(image_size,) * 2, mask_in_chans=16
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=features, mlp_dim=64, num_heads=8),
            transformer_dim=features,
            iou_head_depth=3,
            iou_head_hidden_dim=48,
        ),
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "neck.1" in name or "neck.3" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # swapped weights and biases must show
            else:
                parameter.normal_(std=max(parameter[0].numel(), 1) ** -0.5 if parameter.ndim > 1 else 0.02)
    return model


@pytest.fixture
def judge():
    return meta_sam()


@torch.no_grad()
def test_equals_segment_anything(judge, tmp_path):
    torch.save(judge.state_dict(), tmp_path / "sam.pth")
    model = SamForSemanticSegmentation.from_pretrained(tmp_path / "sam.pth")
    pixels = torch.randn(2, 3, 64, 64)
    expected = judge.image_encoder(pixels)
    assert 0.1 < expected.std() < 10
    assert (expected[0] - expected[1]).abs().mean() > 0.1
    torch.testing.assert_close(model.get_image_embeddings(pixels), expected, **MODEL._asdict())
    sparse, dense = judge.prompt_encoder(points=None, boxes=None, masks=None)
    for i in range(2):
        masks, _ = judge.mask_decoder(
            image_embeddings=expected[i : i + 1],
            image_pe=judge.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        upsampled = F.interpolate(masks, size=(64, 64), mode="bilinear", align_corners=False)
        # A random decoder's logits are small: they are held to their own size.
        scale = upsampled.std()
        assert scale > 0
        torch.testing.assert_close(model(pixels[i : i + 1]).foreground / scale, upsampled / scale, **MODEL._asdict())


@torch.no_grad()
def test_promptable_outputs_equal_too(judge, tmp_path):
    """The parts this package has no use for are converted rightly as well: points, masks, the quality head."""
    torch.save(judge.state_dict(), tmp_path / "sam.pth")
    sam = load_meta_checkpoint(tmp_path / "sam.pth")
    pixels, mask = torch.randn(1, 3, 64, 64), torch.randn(1, 1, 16, 16)
    points, labels = torch.tensor([[[10.0, 20.0], [40.0, 50.0]]]), torch.tensor([[1, 0]])
    sparse, dense = judge.prompt_encoder(points=(points, labels), boxes=None, masks=mask)
    expected, quality = judge.mask_decoder(
        judge.image_encoder(pixels), judge.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True
    )
    out = sam(pixel_values=pixels, input_points=points[None], input_labels=labels[None], input_masks=mask)
    torch.testing.assert_close(out.pred_masks[:, 0], expected, **MODEL._asdict())
    torch.testing.assert_close(out.iou_scores[:, 0], quality, **MODEL._asdict())


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_wrapped_weights_load(judge, tmp_path, wrapper):
    weights = {f"module.{k}": v for k, v in judge.state_dict().items()} if wrapper else judge.state_dict()
    torch.save({wrapper: weights, "epoch": 3} if wrapper else weights, tmp_path / "sam.pth")
    model = SamForSemanticSegmentation.from_pretrained(tmp_path / "sam.pth", image_size=32)
    assert model(torch.randn(1, 3, 32, 32)).logits.shape == (1, 2, 32, 32)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_architectures_are_recognised(name):
    with torch.device("meta"):
        weights = sam_model_registry[name]().state_dict()
    config = recognise_config(weights)
    vision = config.vision_config
    width, depth, heads, global_blocks = PUBLISHED[name]
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (width, depth, heads)
    assert list(vision.global_attn_indexes) == global_blocks
    assert (vision.image_size, vision.window_size, vision.mlp_dim) == (1024, 14, 4 * width)
    defaults = SamConfig()
    for part in ("prompt_encoder_config", "mask_decoder_config"):
        recognised, default = getattr(config, part).to_dict(), getattr(defaults, part).to_dict()
        recognised["layer_norm_eps"] = default["layer_norm_eps"]
        assert recognised == default


@pytest.mark.slow
@torch.no_grad()
def test_true_vit_b_equals_segment_anything(tmp_path):
    """The real architecture and size: 94 M parameters, 1024 pixels."""
    judge = meta_sam(768, 12, 12, (2, 5, 8, 11), image_size=1024, window=14, features=256)
    torch.save(judge.state_dict(), tmp_path / "sam.pth")
    model = SamForSemanticSegmentation.from_pretrained(tmp_path / "sam.pth")
    pixels = torch.randn(1, 3, 1024, 1024)
    torch.testing.assert_close(model.get_image_embeddings(pixels), judge.image_encoder(pixels), **MODEL._asdict())


def test_files_that_are_no_sam(tmp_path, judge):
    path = tmp_path / "sam.pth"
    with pytest.raises(InputError, match="no file"):
        load_meta_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="cannot be read"):
        load_meta_checkpoint(path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="does not hold the weights of a SAM"):
        load_meta_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="table of tensors"):
        load_meta_checkpoint(path)
    weights = judge.state_dict()
    weights["image_encoder.adapter.weight"] = torch.zeros(1)
    torch.save(weights, path)
    with pytest.raises(InputError, match="1 are unknown"):
        load_meta_checkpoint(path)


class Evil:
    def __reduce__(self):
        return (print, ("this code must not run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    torch.save({"weight": Evil()}, tmp_path / "sam.pth")
    with pytest.raises(InputError, match="never load one that needs code"):
        load_meta_checkpoint(tmp_path / "sam.pth")
    assert "must not run" not in capsys.readouterr().out


def test_the_size_that_a_sam_was_made_for(tiny_sam_folder, tmp_path):
    from convlora.models import SamForSemanticSegmentation
    from convlora.models.checkpoints import native_size

    assert native_size(tiny_sam_folder) == [64, 64]
    SamForSemanticSegmentation.from_pretrained(tiny_sam_folder, image_size=(48, 96)).save_pretrained(tmp_path / "own")
    assert native_size(tmp_path / "own") == [48, 96]
    with pytest.raises(InputError, match="neither a local file"):
        native_size("nowhere/nothing")


def test_one_number_that_stands_for_many(tmp_path):
    """A file of a few kilobytes, whose tensors would take gigabytes as soon as they are copied."""
    weights = meta_sam().state_dict()
    weights["image_encoder.patch_embed.proj.bias"] = torch.zeros(1).expand(1 << 30)
    torch.save(weights, tmp_path / "sam.pth")
    with pytest.raises(InputError, match="bytes, but its tensors would take 4,"):
        load_meta_checkpoint(tmp_path / "sam.pth")


def test_a_compressed_checkpoint(tmp_path):
    torch.save({"image_encoder.pos_embed": torch.zeros(1 << 20)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "sam.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (tmp_path / "sam.pth").stat().st_size < 1 << 17
    with pytest.raises(InputError, match="is compressed or damaged"):
        load_meta_checkpoint(tmp_path / "sam.pth")


def test_a_checkpoint_of_whole_numbers(tmp_path):
    torch.save({name: value.long() for name, value in meta_sam().state_dict().items()}, tmp_path / "sam.pth")
    with pytest.raises(InputError, match="weights are floating-point numbers"):
        load_meta_checkpoint(tmp_path / "sam.pth")
