"""SAM-HQ as an end-to-end semantic segmenter."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import SamHQModel, SamPromptEncoderConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder
from transformers.models.sam_hq.configuration_sam_hq import SamHQMaskDecoderConfig

from convlora.models.configuration import SamSegmentationConfig
from convlora.models.kinds import SAM_HQS
from convlora.models.segmenter import SamForSemanticSegmentation

# Where the output of the early block goes in this thread; nowhere outside of a pass.
_receiver: ContextVar[list[torch.Tensor] | None] = ContextVar("receiver", default=None)


def _hand_over(block: nn.Module, args: Any, output: torch.Tensor) -> None:
    """A forward hook."""
    receiver = _receiver.get()
    if receiver is not None:
        receiver.append(output)


@strict
class SamHQSegmentationConfig(SamSegmentationConfig):
    """Configuration of [`SamHQForSemanticSegmentation`]: as that of [`SamForSemanticSegmentation`]."""

    model_type = "convlora_sam_hq"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "prompt_encoder_config": SamPromptEncoderConfig,
        "mask_decoder_config": SamHQMaskDecoderConfig,
        "vision_config": SamVisionConfig,
    }


class SamHQForSemanticSegmentation(SamForSemanticSegmentation):
    """SAM-HQ without prompts: pixels in, logits per pixel out.

    Its vision encoder is SAM's. Its mask decoder reads the high-quality token, on mask features to which an early block
    of the encoder contributes; these feed the detail branch too. A fresh model draws SAM-HQ's own mask, the one of the
    high-quality token alone. (The decoder of transformers 5.23 drops what its two-way transformer makes of the image,
    so that its masks differ from the published ones. This class follows the publication.)

    Example:
        >>> model = SamHQForSemanticSegmentation.from_pretrained("syscv-community/sam-hq-vit-base")  # doctest: +SKIP

    Source: Ke et al., "Segment Anything in High Quality", NeurIPS 2023.
    """

    config_class = SamHQSegmentationConfig
    config: SamHQSegmentationConfig
    stock = SamHQModel
    stock_kinds = SAM_HQS
    name_of_kind = "SAM-HQ"

    def __init__(self, config: SamHQSegmentationConfig) -> None:
        super().__init__(config)
        self._listen()

    @property
    def early_block(self) -> int:
        """Number of the block that the mask features read: the first with global attention."""
        return int(min(self.config.vision_config.global_attn_indexes))

    def _listen(self) -> None:
        block = self.vision_encoder.layers[self.early_block]
        if _hand_over not in block._forward_hooks.values():
            block.register_forward_hook(_hand_over)

    def take_encoder(self, sam: Any) -> None:
        """Takes over the weights of SAM-HQ's encoder, which has the modules of SAM's."""
        with torch.device("meta"):
            encoder = SamVisionEncoder(self.config.vision_config)
        encoder.load_state_dict(sam.vision_encoder.state_dict(), assign=True)
        self.vision_encoder = encoder.train(sam.vision_encoder.training)
        self._listen()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Image embeddings, and the output of the early block, `(B, D, h, w)`."""
        heard: list[torch.Tensor] = []
        early = None
        token = _receiver.set(heard)
        try:
            if self.frozen_block_cache is None:
                embeddings = self.get_image_embeddings(pixel_values)
            else:
                embeddings, early = self.frozen_block_cache.encode(self.vision_encoder, pixel_values)
        finally:
            _receiver.reset(token)
        early = heard[0] if early is None else early
        return embeddings, (early.permute(0, 3, 1, 2),)
