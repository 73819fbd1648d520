"""Masks, and what draws them: kernels of tokens on mask features, with or without a detail branch beside."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from convlora.models.detail import DetailBranch


class Masks(NamedTuple):
    """Logits of masks in two parts, which are summed at the size that is wanted.

    Attributes:
        coarse: `(B, N, H / 4, W / 4)`, those of the mask features.
        fine: The correction of the detail branch, `(B, N, H / 2, W / 2)` or `(B, N, H, W)`; None without one.
    """

    coarse: torch.Tensor
    fine: torch.Tensor | None

    def at(self, size: tuple[int, int] | torch.Size) -> torch.Tensor:
        """The sum at a size, by bilinear interpolation, in single precision: `(B, N, *size)`."""
        parts = [part.float() for part in self if part is not None]
        resized = [F.interpolate(p, size=size, mode="bilinear", align_corners=False) for p in parts]
        return resized[0] if len(resized) == 1 else resized[0] + resized[1]

    def finest(self) -> torch.Tensor:
        """The sum at the size of the finer part, in single precision."""
        return self.coarse.float() if self.fine is None else self.at(self.fine.shape[-2:])


class MaskDecoder(nn.Module):
    """What all mask decoders share.

    Attributes:
        detail: The detail branch; None without one.
        mask_tokens: Mask tokens of a decoder with its own tokens, one for each mask.
        embedding_channels: Channels of the image embedding that the masks are drawn on.
        mask_channels: Channels of the mask features.
        read_token: Name of the tokens that are read, one for each mask.
        is_new: Whether the decoder was not pretrained with the encoder.
    """

    detail: DetailBranch | None
    mask_tokens: nn.Embedding

    @property
    def embedding_channels(self) -> int:
        """Channels of the image embedding."""
        raise NotImplementedError

    @property
    def mask_channels(self) -> int:
        """Channels of the mask features."""
        raise NotImplementedError

    @property
    def is_new(self) -> bool:
        """Whether it was not pretrained with the encoder."""
        return False

    @property
    def read_token(self) -> str:
        """Name of the tokens that are read."""
        return "mask_tokens"

    def add_detail(self, finest: int, channels: int = 3) -> None:
        """Adds a fresh detail branch, see `convlora.models.detail`; the masks stay as they are for now."""
        branch = DetailBranch(
            self.embedding_channels,
            self.mask_channels,
            finest=finest,
            tokens=self._tokens_of_classes(),
            channels=channels,
        )
        self.detail = branch.to(self.mask_tokens.weight)

    def _tokens_of_classes(self) -> int:
        """Tokens of several classes; 0 for a single mask."""
        return 0

    def draw(
        self,
        kernels: torch.Tensor,
        features: torch.Tensor,
        image_embeddings: torch.Tensor,
        pixel_values: torch.Tensor,
    ) -> Masks:
        """The masks of kernels `(B, N, M)` on mask features `(B, M, 4h, 4w)`."""
        coarse = torch.einsum("bnc,bchw->bnhw", kernels, features)
        if self.detail is None:
            return Masks(coarse, None)
        fine = self.detail(pixel_values, image_embeddings, features)
        return Masks(coarse, self.detail.masks(kernels, fine))
