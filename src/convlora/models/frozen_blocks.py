"""Keeping what the frozen first blocks of a vision encoder make of each image on disk, so that they run once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers.models.sam.modeling_sam import SamVisionEncoder

from convlora.errors import InputError
from convlora.ordinary import NotOrdinaryError, ordinary
from convlora.storage import make_folder, replacing_file

_HIDDEN, _EARLY = "hidden", "early"  # maps of an entry


class FrozenBlockCache:
    """The output of the blocks below the first trained one, per image.

    An image is known by its pixels as they enter the model, and the folder by the weights that are passed over, so
    that a stale entry cannot be met. Entries are computed one image at a time: they do not depend on the batch they
    were first seen in.

    Args:
        encoder: transformers' SAM vision encoder; what is trained must be settled.
        folder: Where to keep the entries.
        training_images: Whether images seen in training mode are kept too; no use where no two are alike.
        tell: Receives a sentence if entries cannot be written any more.
        early: Number of a block whose output is wanted too, if there is one.

    Attributes:
        blocks: Number of blocks that are passed over.
    """

    def __init__(
        self,
        encoder: SamVisionEncoder,
        folder: Path,
        *,
        training_images: bool,
        tell: Callable[[str], None] = lambda text: None,
        early: int | None = None,
    ) -> None:
        self.blocks = frozen_blocks(encoder)
        self.early = early if early is not None and early < self.blocks else None
        self.training_images = training_images
        self.tell = tell
        self.writable = True
        self.folder = folder / _fingerprint(encoder, self.blocks)

    def encode(self, encoder: SamVisionEncoder, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Image embeddings as the encoder itself gives them, and the output of the early block.

        Args:
            encoder: The encoder.
            pixel_values: Images `(B, 3, H, W)`.

        Returns:
            `(B, C, h, w)`, and `(B, h, w, D)` if the early block is one of those that are passed over, else None.
        """
        if encoder.training and not self.training_images:
            maps = self._run(encoder, pixel_values)
        else:
            entries = [self._one(encoder, image) for image in pixel_values.split(1)]
            maps = {name: torch.cat([entry[name] for entry in entries]) for name in self._names}
        hidden = maps[_HIDDEN]
        for layer in encoder.layers[self.blocks :]:
            hidden = layer(hidden)
        return encoder.neck(hidden), maps.get(_EARLY)

    @property
    def _names(self) -> tuple[str, ...]:
        return (_HIDDEN,) if self.early is None else (_HIDDEN, _EARLY)

    def _one(self, encoder: SamVisionEncoder, image: torch.Tensor) -> dict[str, torch.Tensor]:
        device = image.device
        half = str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else ""
        raw = image.detach().cpu().contiguous()
        name = hashlib.blake2b(raw.view(torch.uint8).numpy().data, digest_size=20, key=half.encode()).hexdigest()
        path = self.folder / name[:2] / f"{name}.safetensors"
        try:
            return _read(path, self._names, self._size(encoder, image), str(device))
        except (
            FileNotFoundError,
            NotOrdinaryError,
            SafetensorError,
            ValueError,
        ):  # not there, or cut short by a full disk: made anew
            maps = self._run(encoder, image)
        if self.writable:
            self._keep(path, maps)
        return maps

    def _keep(self, path: Path, maps: dict[str, torch.Tensor]) -> None:
        try:
            make_folder(path.parent)
            with replacing_file(path) as temporary:
                save_file({name: value.contiguous().cpu() for name, value in maps.items()}, temporary)
        except (OSError, SafetensorError, InputError) as error:  # a full disk must not end a run that can do without
            self.writable = False
            self.tell(f"The cache takes no more images ({error}); training continues without caching new ones.")

    @staticmethod
    def _size(encoder: SamVisionEncoder, image: torch.Tensor) -> list[int]:
        patch, channels = encoder.config.patch_size, encoder.config.hidden_size
        return [1, image.shape[-2] // patch, image.shape[-1] // patch, channels]

    def _run(self, encoder: SamVisionEncoder, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = {}
        with torch.no_grad():
            hidden: torch.Tensor = encoder.patch_embed(pixel_values)
            if encoder.pos_embed is not None:
                hidden = hidden + encoder.pos_embed
            for number, layer in enumerate(encoder.layers[: self.blocks]):
                hidden = layer(hidden)
                if number == self.early:
                    maps[_EARLY] = hidden
        return maps | {_HIDDEN: hidden}


def _read(path: Path, names: tuple[str, ...], size: list[int], device: str) -> dict[str, torch.Tensor]:
    """An entry; its size is compared first, because the folder may come from elsewhere."""
    with safe_open(ordinary(path), framework="pt", device=device) as file:
        if any(file.get_slice(name).get_shape() != size for name in names):
            raise ValueError(f"{path} is of another size")
        return {name: file.get_tensor(name) for name in names}


def frozen_blocks(encoder: SamVisionEncoder) -> int:
    """Number of blocks below the first one that is trained; 0 if what comes before the blocks is trained.

    Blocks with dropout count as trained: they never give the same output twice.
    """
    before = [*encoder.patch_embed.parameters()] + ([] if encoder.pos_embed is None else [encoder.pos_embed])
    if any(parameter.requires_grad for parameter in before) or encoder.config.attention_dropout > 0:
        return 0
    for number, layer in enumerate(encoder.layers):
        if any(parameter.requires_grad for parameter in layer.parameters()):
            return number
    return len(encoder.layers)


def _fingerprint(encoder: SamVisionEncoder, blocks: int) -> str:
    parts: list[nn.Module] = [encoder.patch_embed, *encoder.layers[:blocks]]
    code = hashlib.blake2b(str(blocks).encode(), digest_size=8)
    tensors = [] if encoder.pos_embed is None else [encoder.pos_embed]
    for part in parts:
        tensors += part.state_dict().values()
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            code.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return code.hexdigest()
