"""SAM's mask decoder without prompts: image embeddings in, logit maps out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamFeedForward, SamLayerNorm, SamMaskDecoder, SamTwoWayTransformer
from transformers.models.sam2.configuration_sam2 import Sam2MaskDecoderConfig
from transformers.models.sam2.modeling_sam2 import (
    Sam2FeedForward,
    Sam2LayerNorm,
    Sam2MaskDecoder,
    Sam2TwoWayTransformer,
)
from transformers.models.sam3_tracker.configuration_sam3_tracker import Sam3TrackerMaskDecoderConfig
from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerMaskDecoder
from transformers.models.sam_hq.configuration_sam_hq import SamHQMaskDecoderConfig
from transformers.models.sam_hq.modeling_sam_hq import SamHQMaskDecoder

from convlora.models.drawing import MaskDecoder, Masks
from convlora.models.high_quality import HighQualityFeatures

DecoderConfig: TypeAlias = (
    SamMaskDecoderConfig | SamHQMaskDecoderConfig | Sam2MaskDecoderConfig | Sam3TrackerMaskDecoderConfig
)


class SemanticMaskDecoder(MaskDecoder):
    """The mask decoder for a binary task, with the parameter names of transformers' decoders of SAM, SAM-HQ or SAM 2.

    SAM 2's decoder has a token more, which tells whether there is an object, and adds the encoder's finer maps to its
    mask features. SAM-HQ's has a mask token more, whose mask on better mask features replaces SAM's. SAM 3's,
    of its tracker, is made as SAM 2's.

    All of SAM's output tokens go through the two-way transformer, so that it starts as SAM's own single-mask output;
    the first mask token is read. The hyper-networks of SAM's other three masks and the head that predicts SAM's mask
    quality have no use here and are left out: every parameter that is there takes part. The other three tokens may be
    left out as well, as in the published implementation; see [`SemanticMaskDecoder.keep_first_token`].

    Args:
        config: transformers' configuration of the mask decoder.

    Source: Kirillov et al., "Segment Anything", 2023, appendix A; Ke et al., "Segment Anything in High Quality", 2023,
        section 3.2; Ravi et al., "SAM 2", 2024, appendix D; Zhong et al., ICLR 2024, section 3.3.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        is_second = isinstance(config, (Sam2MaskDecoderConfig, Sam3TrackerMaskDecoderConfig))
        mlp: Any = Sam2FeedForward if is_second else SamFeedForward
        norm: Any = Sam2LayerNorm if is_second else SamLayerNorm
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(config.num_multimask_outputs + 1, width)
        transformer: Any = Sam2TwoWayTransformer if is_second else SamTwoWayTransformer
        self.transformer: nn.Module = transformer(config)
        self.upscale_conv1 = nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2)
        self.upscale_layer_norm = norm(width // 4, data_format="channels_first")
        self.upscale_conv2 = nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2)
        self.activation = nn.GELU()
        self.output_hypernetworks_mlps = nn.ModuleList([mlp(width, width, width // 8, 3)])
        self.obj_score_token = nn.Embedding(1, width) if is_second else None
        self.conv_s0 = nn.Conv2d(width, width // 8, kernel_size=1) if is_second else None
        self.conv_s1 = nn.Conv2d(width, width // 4, kernel_size=1) if is_second else None
        is_high_quality = isinstance(config, SamHQMaskDecoderConfig)
        self.hq_token = nn.Embedding(1, width) if is_high_quality else None
        self.hq = HighQualityFeatures(config) if isinstance(config, SamHQMaskDecoderConfig) else None
        self.detail = None
        self.neck: nn.Module | None = None  # for an encoder that was not made for this decoder

    @property
    def embedding_channels(self) -> int:
        """Those of the decoder, to which a neck brings other encoders."""
        return int(self.config.hidden_size)

    @property
    def mask_channels(self) -> int:
        """An eighth of them."""
        return int(self.config.hidden_size) // 8

    @property
    def is_new(self) -> bool:
        """Whether it has a neck."""
        return self.neck is not None

    def keep_first_token(self) -> None:
        """Leaves out all mask tokens but the first. The others attend to it, so the mask changes."""
        first = self.mask_tokens.weight[:1].detach().clone()
        self.mask_tokens = nn.Embedding.from_pretrained(first, freeze=False)

    @property
    def read_token(self) -> str:
        """Name of the tokens that are read, one for each mask."""
        return "mask_tokens" if self.hq is None else "hq_token"

    @classmethod
    def from_sam(
        cls, decoder: SamMaskDecoder | SamHQMaskDecoder | Sam2MaskDecoder | Sam3TrackerMaskDecoder
    ) -> SemanticMaskDecoder:
        """Takes over the modules of transformers' mask decoder, without copying their weights."""
        is_high_quality = isinstance(decoder, SamHQMaskDecoder)
        config = decoder.transformer.config if is_high_quality else decoder.config  # of the same class
        with torch.device("meta"):
            semantic = cls(config)
        for name, module in list(semantic.named_children()):
            if isinstance(module, HighQualityFeatures):
                module.take_from(decoder)
            else:
                setattr(semantic, name, getattr(decoder, name))
        hypernetwork = decoder.hq_mask_mlp if is_high_quality else decoder.output_hypernetworks_mlps[0]
        semantic.output_hypernetworks_mlps = nn.ModuleList([hypernetwork])
        return semantic

    def forward(
        self,
        image_embeddings: torch.Tensor,
        image_positional_embeddings: torch.Tensor,
        dense_embedding: torch.Tensor,
        pixel_values: torch.Tensor,
        finer: Sequence[torch.Tensor] = (),
    ) -> Masks:
        """Predicts the mask of the foreground.

        Args:
            image_embeddings: `(B, C, h, w)` from the vision encoder.
            image_positional_embeddings: `(1, C, h, w)`.
            dense_embedding: `(1, C, 1, 1)`, SAM's embedding of "no mask given".
            pixel_values: `(B, 3, H, W)`, for the detail branch.
            finer: Finer maps of the encoder. SAM 2 and SAM 3 have two, `(B, C, 4h, 4w)` and `(B, C, 2h, 2w)`. SAM-HQ
                has an early one, `(B, D, h, w)`.

        Returns:
            Logits of one mask.
        """
        image_embeddings = image_embeddings if self.neck is None else self.neck(image_embeddings)
        tokens, features = self.decode(image_embeddings, image_positional_embeddings, dense_embedding, finer)
        return self.draw(self.output_hypernetworks_mlps[0](tokens[:, :1]), features, image_embeddings, pixel_values)

    def decode(
        self,
        image_embeddings: torch.Tensor,
        image_positional_embeddings: torch.Tensor,
        dense_embedding: torch.Tensor,
        finer: Sequence[torch.Tensor] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the transformer makes of the mask tokens, `(B, N, C)`, and of the image, `(B, C / 8, 4h, 4w)`."""
        batch, channels, height, width = image_embeddings.shape
        before = [self.iou_token.weight]
        if self.obj_score_token is not None:
            before.insert(0, self.obj_score_token.weight)
        if self.hq_token is not None:
            before.append(self.mask_tokens.weight)
        prefix = sum(map(len, before))
        tokens = torch.cat([*before, getattr(self, self.read_token).weight])
        tokens = tokens.expand(batch, 1, -1, -1)  # transformers has a dimension of its own for prompts: here one

        tokens, cells = self.transformer(
            point_embeddings=tokens,
            image_embeddings=image_embeddings + dense_embedding,
            image_positional_embeddings=image_positional_embeddings.expand(batch, -1, -1, -1),
            attention_similarity=None,
        )

        features = cells.transpose(2, 3).reshape(batch, channels, height, width)
        features = self.upscale_conv1(features)
        if self.conv_s1 is not None:
            features = features + self.conv_s1(finer[1])
        features = self.upscale_conv2(self.activation(self.upscale_layer_norm(features)))
        if self.conv_s0 is not None:
            features = features + self.conv_s0(finer[0])
        features = self.activation(features)
        if self.hq is not None:
            features = self.hq(features, image_embeddings, finer[0])
        return tokens[:, 0, prefix:], features


class MultiClassMaskDecoder(SemanticMaskDecoder):
    """The mask decoder for several classes.

    All mask tokens start near SAM's first one and share its hyper-network, so that each begins near SAM's mask. With
    the head `"mask-classification"` a linear layer names what each token found; with `"per-pixel"` there is one token
    per class, and the classes compete for each pixel.

    Args:
        config: transformers' configuration of the mask decoder.
        num_classes: Number of classes K, background included.
        num_mask_tokens: Number of mask tokens N; K for the head `"per-pixel"`.
        head: `"mask-classification"` or `"per-pixel"`.

    Source: Zhong et al., ICLR 2024, section 3.3 and figure 3; Cheng et al., "Per-Pixel Classification is Not All You
        Need for Semantic Segmentation", NeurIPS 2021.
    """

    def __init__(self, config: DecoderConfig, *, num_classes: int, num_mask_tokens: int, head: str) -> None:
        super().__init__(config)
        setattr(self, self.read_token, nn.Embedding(num_mask_tokens, config.hidden_size))
        self.classifier = nn.Linear(config.hidden_size, num_classes + 1) if head == "mask-classification" else None

    @classmethod
    def from_binary(
        cls, decoder: SemanticMaskDecoder, *, num_classes: int, num_mask_tokens: int, head: str
    ) -> MultiClassMaskDecoder:
        """Takes over the modules of a binary decoder, or of one for other classes; tokens and classifier are new.

        The published tokens start as copies. Equal tokens predict equal masks, the cheapest match changes from step to
        step, and no token ever settles on a class: three classes that differ in colour were not told apart after 200
        steps. So they start half a standard deviation apart, which ends that within 100 steps.
        """
        several = cls(decoder.config, num_classes=num_classes, num_mask_tokens=num_mask_tokens, head=head)
        first = getattr(decoder, decoder.read_token).weight[0].detach()
        for name, module in decoder.named_children():
            if name not in (decoder.read_token, "classifier"):
                setattr(several, name, module)
        if several.detail is not None:
            several.detail.use_tokens(num_mask_tokens)
        with torch.no_grad():
            apart = 0.5 * torch.randn(num_mask_tokens, len(first)) * first.std().clamp(min=1e-3)
            getattr(several, several.read_token).weight.copy_(first + apart.to(first))
        return several.to(first.device)

    def _tokens_of_classes(self) -> int:
        return len(getattr(self, self.read_token).weight)

    def forward(  # type: ignore[override]
        self,
        image_embeddings: torch.Tensor,
        image_positional_embeddings: torch.Tensor,
        dense_embedding: torch.Tensor,
        pixel_values: torch.Tensor,
        finer: Sequence[torch.Tensor] = (),
    ) -> tuple[Masks, torch.Tensor | None]:
        """Predicts masks and names them.

        Args:
            image_embeddings: `(B, C, h, w)` from the vision encoder.
            image_positional_embeddings: `(1, C, h, w)`.
            dense_embedding: `(1, C, 1, 1)`, SAM's embedding of "no mask given".
            pixel_values: `(B, 3, H, W)`, for the detail branch.
            finer: Finer maps of the encoder. SAM 2 and SAM 3 have two, `(B, C, 4h, 4w)` and `(B, C, 2h, 2w)`. SAM-HQ
                has an early one, `(B, D, h, w)`.

        Returns:
            Logits of N masks, and class logits `(B, N, K + 1)`, where the last class is "no object". With the head
            `"per-pixel"` the class logits are None.
        """
        image_embeddings = image_embeddings if self.neck is None else self.neck(image_embeddings)
        tokens, features = self.decode(image_embeddings, image_positional_embeddings, dense_embedding, finer)
        masks = self.draw(self.output_hypernetworks_mlps[0](tokens), features, image_embeddings, pixel_values)
        return masks, None if self.classifier is None else self.classifier(tokens)
