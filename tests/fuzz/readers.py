"""What reads files of strangers, each with files that are right to begin with."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image

from convlora.data.checking.check import check_data
from convlora.data.classes.classes_json import read_classes_json
from convlora.data.reading.images import read_image, read_image_size, read_mask
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from convlora.importing.predictor import read_predictor, read_weights
from convlora.importing.settings import Training, read_training
from convlora.importing.weights import convert
from convlora.methods.conv_lora import ConvLoraConfig
from convlora.prepare.catalogue import find_entry
from convlora.prepare.prepare import prepare
from convlora.runs.adapters import _compare, _shapes
from convlora.runs.reading import read_classes, read_metrics, read_settings
from convlora.training.checkpoint import load_state, save_state
from convlora.training.config import RunConfig
from convlora.training.resumable import reading
from tests.fuzz.formats import FORMATS
from tests.fuzz.reader import Reader

_QKV = r"(.*\.)?vision_encoder\.layers\.\d+\.attn\.qkv"
SAVED = Path(__file__).parents[1] / "saved_runs" / "0.1.0" / "conv-lora"


def encoded(form: str, mode: str = "RGB", **options) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    image = (
        Image.fromarray(values).convert(mode) if mode != "I;16" else Image.fromarray(values[..., 0].astype("uint16"))
    )
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _other_tiffs() -> list[bytes]:
    """TIFF files that are not left to Pillow, with several pages and with a mask."""
    contents = []
    for kind, channels, more in (("f8", 1, {}), ("u1", 5, {"compression": "zlib"}), ("i1", 1, {"photometric": 0})):
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as file:
            values = np.arange(9 * 11 * channels).reshape(channels, 9, 11).astype(kind)
            planar = {"planarconfig": "separate"} if channels > 1 else {}
            file.write(values if channels > 1 else values[0], metadata=None, **({"photometric": 1} | planar | more))
            file.write(values[0] > 3, subfiletype=4, photometric="mask", compression="zlib", metadata=None)
            file.write(values[0], metadata=None)
        contents.append(stream.getvalue())
    return contents


def _image(path: Path) -> None:
    read_image_size(path)
    read_image(path)
    with contextlib.suppress(InputError):  # not every image is a mask
        read_mask(path)


def _table(path: Path) -> None:
    for name in ("a", "b"):
        (path.parent / f"{name}.png").write_bytes(encoded("PNG", "L"))
    check_data(open_data(path), full=True)


def _coco(path: Path) -> None:
    (path.parent / "a.png").write_bytes(encoded("PNG"))
    check_data(open_data(path), full=True)


def _run_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.parent)


def _state(path: Path) -> None:
    with reading(path):
        load_state(path)


def _archive(path: Path) -> None:
    try:
        prepare(find_entry("trans10k-v2"), path.parent / "out", given=path)
    finally:
        shutil.rmtree(path.parent / "out", ignore_errors=True)


def _predictor_weights(path: Path) -> None:
    training = Training("conv-lora", 2, 32, 2, "", 1, "imagenet", 255, None, False, None, None)
    convert(read_weights(path), training, path)


def _predictor_settings(path: Path) -> None:
    (path.parent / "model.ckpt").touch()
    read_training(read_predictor(path.parent))


def _predictor() -> bytes:
    """The weights of a predictor, those of an adapted layer and of the mask decoder."""
    layer = "model.model.vision_encoder.layers.0.attn.qkv."
    weights = {"model.model.mask_decoder.mask_tokens.weight": torch.ones(1, 4), f"{layer}weight": torch.ones(6, 2)}
    weights |= {f"{layer}lora_A": torch.ones(2, 2), f"{layer}lora_B": torch.ones(6, 2)}
    weights |= {f"{layer}lora_moe_gating.{name}": torch.ones(2, 2) for name in ("w_gate", "w_noise")}
    for expert in range(2):
        weights[f"{layer}lora_moe_experts.{expert}.0.weight"] = torch.ones(2, 2, 3, 3)
        weights[f"{layer}lora_moe_experts.{expert}.0.bias"] = torch.ones(2)
    stream = io.BytesIO()
    torch.save({"state_dict": weights, "epoch": 3}, stream)
    return stream.getvalue()


PREDICTOR = b"""model:
  names:
  - sam
  sam:
    checkpoint_name: facebook/sam-vit-huge
    image_norm: imagenet
    num_mask_tokens: 1
    ignore_label: 255
optim:
  lr: 0.0001
  max_epochs: 30
  peft: conv_lora
  lora:
    r: 3
    alpha: 32
    conv_lora_expert_num: 8
"""


def _zip(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for split in ("train", "validation", "test"):
            archive.writestr(f"T/{split}/images/a.jpg", encoded("JPEG"))
            archive.writestr(f"T/{split}/masks_12/a_mask.png", encoded("PNG", "1"))
    return stream.getvalue()


def _saved_state() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save_state(path, {"a": [1, 2.5, (torch.arange(4), None)], 3: np.arange(3), "b": {"c": True}})
        return path.read_bytes()


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 11, "height": 9}],
    "categories": [{"id": 3, "name": "cell"}, {"id": 7, "name": "dirt"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 6, 1, 6, 6]], "area": 9, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 7, "segmentation": {"size": [9, 11], "counts": [9, 5, 85]}},
        {"id": 3, "image_id": 1, "category_id": 7, "segmentation": {"size": [9, 11], "counts": "99U2"}},
    ],
}

READERS = {
    "png": Reader("x.png", [encoded("PNG"), encoded("PNG", "P"), encoded("PNG", "I;16"), encoded("PNG", "LA")], _image),
    "jpeg": Reader("x.jpg", [encoded("JPEG"), encoded("JPEG", "CMYK")], _image),
    "tiff": Reader(
        "x.tif",
        [encoded("TIFF"), encoded("TIFF", "F"), encoded("TIFF", compression="tiff_lzw"),
         encoded("TIFF", "L", compression="tiff_deflate"), *_other_tiffs()],
        _image,
    ),
    "bmp": Reader("x.bmp", [encoded("BMP"), encoded("BMP", "P")], _image),
    "webp": Reader("x.webp", [encoded("WEBP"), encoded("WEBP", lossless=True)], _image),
    "csv": Reader(
        "train.csv",
        [b"image,label\na.png,b.png\nb.png,a.png\n", b'\xef\xbb\xbfimage;label;n\n"a.png";b.png;1\n'],
        _table,
    ),
    "classes": Reader(
        "classes.json",
        [b'{"classes": ["a", "b"], "ignore_index": 255, "colors": ["#000000", [1, 2, 3]], "values": [0, 9]}'],
        read_classes_json,
    ),
    "coco": Reader("coco.json", [json.dumps(COCO).encode()], _coco),
    "settings": Reader("config.yaml", [(SAVED / "config.yaml").read_bytes()], RunConfig.load),
    "run-settings": Reader("config.yaml", [(SAVED / "config.yaml").read_bytes()], _run_folder(read_settings)),
    "run-classes": Reader("classes.json", [(SAVED / "classes.json").read_bytes()], _run_folder(read_classes)),
    "metrics": Reader("metrics.json", [(SAVED / "metrics.json").read_bytes()], _run_folder(read_metrics)),
    "adapter-settings": Reader(
        "adapter_config.json",
        [(SAVED / "adapter" / "adapter_config.json").read_bytes()],
        lambda path: _compare(path, ConvLoraConfig(target_modules=_QKV, modules_to_save=["mask_decoder"])),
    ),
    "adapter": Reader(
        "a.safetensors", [(SAVED / "adapter" / "adapter_model.safetensors").read_bytes()[:9000]], _shapes
    ),
    "checkpoint": Reader("state.safetensors", [_saved_state()], _state),
    "predictor": Reader("model.ckpt", [_predictor()], _predictor_weights),
    "predictor-settings": Reader("config.yaml", [PREDICTOR], _predictor_settings),
    "archive": Reader("x.zip", [_zip(), _zip(zipfile.ZIP_LZMA), _zip(zipfile.ZIP_BZIP2)], _archive),
    **{f"format-{name}": reader for name, reader in FORMATS.items()},
}  # fmt: skip
