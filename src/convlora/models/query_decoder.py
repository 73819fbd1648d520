"""EoMT's mask decoder: queries that went through the encoder's last blocks, and heads that read them."""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers import EomtConfig
from transformers.models.eomt.modeling_eomt import EomtMaskHead, EomtScaleBlock

from convlora.models.drawing import MaskDecoder, Masks

_DEEPEST = ((12, 3), (24, 4))  # up to so many blocks, the last so many see the queries
_MOST = 5


def usual_query_blocks(blocks: int) -> int:
    """How many of the last blocks of an encoder see the queries: 3, 4 and 5 for ViT-S and B, ViT-L, and larger ones.

    In an encoder of fewer than twelve blocks it is a quarter, at least one.

    Source: Kerssies et al., CVPR 2025, section 4.1 (implementation details).
    """
    most = next((last for up_to, last in _DEEPEST if blocks <= up_to), _MOST)
    return max(1, min(most, blocks // 4))


class QueryMaskDecoder(MaskDecoder):
    """Masks of learned queries that a plain ViT processed among its own tokens.

    The encoder is the decoder here. The queries enter it before its last blocks and attend to the cells of the image,
    and the cells to them. What is left to do is small: the cells are enlarged fourfold, an MLP makes a kernel of each
    query, and a mask is their product. With mask classification a linear layer names what each query found.

    The published training lets queries see nothing but their own masks at first, and gives that up block by block
    (masked attention with annealing), with a loss after each block. That is left out here: queries see all cells from
    the first step on, as they do in the published model when it predicts, and there is one loss.

    Args:
        width: Channels of the encoder.
        patch_size: Side of its cells in pixels.
        num_classes: Number of classes K, background included.
        num_queries: Number of queries N; one for a binary task.
        head: `"binary"`, `"mask-classification"` or `"per-pixel"`.
        normalize: Whether the tokens get a layer norm first, for an encoder that ends without.

    Source: Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025, section 3.2.
    """

    def __init__(
        self, width: int, patch_size: int, *, num_classes: int, num_queries: int, head: str, normalize: bool = False
    ) -> None:
        super().__init__()
        self.head = head
        # Masks are drawn in cells of about four pixels.
        config = EomtConfig(hidden_size=width, num_upscale_blocks=max(1, round(math.log2(patch_size)) - 2))
        self.mask_tokens = nn.Embedding(num_queries, width)
        self.norm = nn.LayerNorm(width) if normalize else None
        self.upscale = EomtScaleBlock(config)
        self.mask_head = EomtMaskHead(config)
        self.classifier = nn.Linear(width, num_classes + 1) if head == "mask-classification" else None
        self.detail = None

    @property
    def embedding_channels(self) -> int:
        """Those of the encoder."""
        return self.mask_tokens.embedding_dim

    @property
    def mask_channels(self) -> int:
        """Those of the encoder."""
        return self.mask_tokens.embedding_dim

    @property
    def is_new(self) -> bool:
        """Always."""
        return True

    def _tokens_of_classes(self) -> int:
        return 0 if self.head == "binary" else self.mask_tokens.num_embeddings

    def take_from(self, other: QueryMaskDecoder) -> None:
        """Takes over from a decoder for other classes what belongs to no class and no query."""
        self.norm, self.upscale, self.mask_head, self.detail = other.norm, other.upscale, other.mask_head, other.detail
        self.to(other.mask_tokens.weight)
        if self.detail is not None:
            self.detail.use_tokens(self._tokens_of_classes())

    def forward(
        self, image_embeddings: torch.Tensor, queries: torch.Tensor, pixel_values: torch.Tensor
    ) -> Masks | tuple[Masks, torch.Tensor | None]:
        """Predicts masks, and names them.

        Args:
            image_embeddings: `(B, C, h, w)`, the cells after the last block.
            queries: `(B, N, C)`, the queries after it.
            pixel_values: `(B, 3, H, W)`, for the detail branch.

        Returns:
            With the head `"binary"` the logits of one mask. Otherwise those of N masks, and class logits
            `(B, N, K + 1)`, where the last class is "no object", or None with the head `"per-pixel"`.
        """
        if self.norm is not None:
            queries = self.norm(queries)
            image_embeddings = self.norm(image_embeddings.movedim(1, -1)).movedim(-1, 1)
        masks = self.draw(self.mask_head(queries), self.upscale(image_embeddings), image_embeddings, pixel_values)
        if self.head == "binary":
            return masks
        return masks, None if self.classifier is None else self.classifier(queries)
