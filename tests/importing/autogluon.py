"""Predictors as AutoGluon saves them, with random weights, and what they compute, written from the formulas."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import nn
from transformers import SamModel

from convlora.models.random_sam import random_sam
from tests.helpers.direct_experts import apply_expert
from tests.helpers.models import tiny_config

R, ALPHA, EXPERTS, WIDTH, BLOCKS = 3, 16, 4, 32, 2


class Predictor(nn.Module):
    """A SAM of transformers with adapters, with AutoGluon's names beside it.

    Args:
        classes: None for a binary task.
        tokens: Mask tokens.
        peft: `"conv_lora"` or `"lora"`.
    """

    def __init__(self, classes: int | None = None, tokens: int = 1, peft: str = "conv_lora") -> None:
        super().__init__()
        config = tiny_config()
        config.mask_decoder_config.num_attention_heads = 8  # as every SAM has
        config.mask_decoder_config.num_multimask_outputs = tokens - 1
        self.sam: SamModel = random_sam(config)
        self.base = {name: value.clone() for name, value in self.sam.state_dict().items()}
        decoder = self.sam.mask_decoder
        for number in range(1, tokens):  # one hyper-network for all of them
            decoder.output_hypernetworks_mlps[number] = decoder.output_hypernetworks_mlps[0]
        nn.init.normal_(decoder.mask_tokens.weight)
        self.classifier = None if classes is None else nn.Linear(WIDTH, classes + 1)
        self.adapters: dict[str, dict[str, torch.Tensor]] = {}
        for number, layer in enumerate(self.sam.vision_encoder.layers):
            weights = {"lora_A": torch.randn(R, WIDTH) / 4, "lora_B": torch.randn(3 * WIDTH, R) / 8}
            if peft == "conv_lora":
                weights |= {f"lora_moe_gating.{name}": torch.randn(R, EXPERTS) for name in ("w_gate", "w_noise")}
                weights |= {"lora_moe_gating.mean": torch.zeros(1), "lora_moe_gating.std": torch.ones(1)}
                for expert in range(EXPERTS):
                    weights[f"lora_moe_experts.{expert}.0.weight"] = torch.randn(R, R, 3, 3) / 3
                    weights[f"lora_moe_experts.{expert}.0.bias"] = torch.randn(R) / 3
            self.adapters[f"vision_encoder.layers.{number}.attn.qkv"] = weights
            layer.attn.qkv = Adapted(layer.attn.qkv, weights)
        self.peft = peft
        self.eval()

    @property
    def chosen(self) -> set[int]:
        """The experts that the last images were sent to."""
        return set().union(*(layer.attn.qkv.chosen for layer in self.sam.vision_encoder.layers))

    @torch.no_grad()
    def answer(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of the masks at a quarter of the images' size, `(B, N, h, w)`, and of their classes."""
        found: list[torch.Tensor] = []
        transformer = self.sam.mask_decoder.transformer
        hook = transformer.register_forward_hook(lambda module, given, output: found.append(output[0]))
        several = self.sam.mask_decoder.num_mask_tokens > 1
        first, *others = (self.sam(pixel_values=pixels, multimask_output=s).pred_masks[:, 0] for s in (False, several))
        hook.remove()
        masks = torch.cat([first, *others], dim=1) if several else first
        return masks, None if self.classifier is None else self.classifier(found[0][:, 0, 1:])

    def state_dict_of_autogluon(self) -> dict[str, torch.Tensor]:
        """Every weight under AutoGluon's name, as Lightning keeps them."""
        weights = {name.replace(".qkv.layer.", ".qkv."): value for name, value in self.sam.state_dict().items()}
        weights = {
            name: value
            for name, value in weights.items()
            if "output_hypernetworks_mlps" not in name or "mlps.0." in name
        }
        for layer, parts in self.adapters.items():
            weights |= {f"{layer}.{name}": value for name, value in parts.items()}
        if self.classifier is not None:
            own = self.classifier.state_dict()
            weights |= {f"mask_decoder.output_classifier_mlps.{name}": value for name, value in own.items()}
        return {f"model.model.{name}": value for name, value in weights.items()}

    def settings(self, **sam) -> dict:
        """The content of `config.yaml`, as far as it is of use."""
        lora = {"module_filter": [".*vision_encoder.*attn"], "filter": ["q", "v"], "r": R, "alpha": ALPHA}
        named = {"checkpoint_name": "facebook/sam-vit-huge", "image_norm": "imagenet", "ignore_label": 255}
        tokens = self.sam.mask_decoder.num_mask_tokens
        return {
            "model": {"names": ["sam"], "sam": {**named, "num_mask_tokens": tokens, **sam}},
            "optim": {
                "lr": 0.0003, "loss_func": "structure_loss", "max_epochs": 30, "peft": self.peft,
                "lora": {**lora, "conv_lora_expert_num": EXPERTS},
                "extra_trainable_params": [".*mask_decoder"],
            },
            "env": {"precision": "16-mixed", "num_gpus": -1},
        }  # fmt: skip

    def save(self, folder: Path, *, only_trained: bool = False, **sam) -> Path:
        """Writes the files of a predictor."""
        folder.mkdir(parents=True)
        weights = self.state_dict_of_autogluon()
        if only_trained:
            weights = {name: value for name, value in weights.items() if "lora_" in name or "mask_decoder" in name}
        torch.save({"state_dict": weights}, folder / "model.ckpt")
        (folder / "config.yaml").write_text(yaml.safe_dump(self.settings(**sam)))
        classes = 1 if self.classifier is None else self.classifier.out_features - 1
        assets = {
            "learner_class": "SemanticSegmentationLearner", "problem_type": "semantic_segmentation", "version": "1.4.0",
            "output_shape": classes, "best_score": 0.75, "eval_metric_name": "iou",
        }  # fmt: skip
        (folder / "assets.json").write_text(json.dumps(assets))
        (folder / "df_preprocessor.pkl").write_bytes(b"no pickle: whoever opens it fails")
        return folder

    def save_base(self, folder: Path) -> Path:
        """Writes the SAM that was fine-tuned, as transformers does; its mask decoder has four tokens."""
        config = tiny_config()
        config.mask_decoder_config.num_attention_heads = 8
        sam = random_sam(config, seed=5)
        own = {name: value for name, value in self.base.items() if not name.startswith("mask_decoder.")}
        sam.load_state_dict(own, strict=False)
        sam.save_pretrained(folder)
        return folder


class Adapted(nn.Module):
    """A linear layer with Conv-LoRA, or LoRA if there are no experts, one map after the other.

    Source: Zhong et al., ICLR 2024, equations 2 to 4.
    """

    def __init__(self, layer: nn.Linear, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.weights, self.chosen = layer, weights, set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = x @ self.weights["lora_A"].t()  # (B, H, W, r)
        if "lora_moe_gating.w_gate" in self.weights:
            z = torch.stack([self._with_expert(one) for one in z])
        return self.layer(x) + ALPHA / R * (z @ self.weights["lora_B"].t())

    def _with_expert(self, z: torch.Tensor) -> torch.Tensor:
        expert = int((z.mean(dim=(0, 1)) @ self.weights["lora_moe_gating.w_gate"]).argmax())
        self.chosen.add(expert)
        weight, bias = (self.weights[f"lora_moe_experts.{expert}.0.{part}"] for part in ("weight", "bias"))
        return z + apply_expert(z.permute(2, 0, 1)[None], weight, bias, expert + 1)[0].permute(1, 2, 0)


def enlarged(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Masks at the size of the images, as AutoGluon hands them over."""
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)
