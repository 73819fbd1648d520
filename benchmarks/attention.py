"""SAM's attention alone, forward and backward, in every form, on windows and whole maps: which one a device should use.

python benchmarks/attention.py --output benchmarks/results/attention.json
python benchmarks/attention.py --whole-steps 256 512 --output benchmarks/results/attention_steps.json

With `--whole-steps` it times fine-tuning steps with LoRA instead. All forms run in one process and in turn, so a change
of the machine's speed hits all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import add_output, alternate, report, summarise
from kinds import Kind, adapted, loss_of, random_batch, segmenter
from torch.nn.attention.flex_attention import flex_attention
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from convlora.devices import resolve_device
from convlora.models.attention import FORMS, RelativeAttention, lay_out, relative_bias, set_attention

WIDTHS = {"vit-b": (768, 12), "vit-l": (1024, 16), "vit-h": (1280, 16)}
MAPS = {  # maps, cells a side: the layers of one image at 1024, 512 and 256 pixels
    "64x64": (1, 64), "25 windows of 14x14": (25, 14),
    "32x32": (1, 32), "9 windows of 14x14": (9, 14),
    "16x16": (1, 16), "4 windows of 14x14": (4, 14),
    # and batches of them
    "4 maps of 32x32": (4, 32), "8 maps of 16x16": (8, 16), "48x48": (1, 48),
}  # fmt: skip
_compiled_flex = torch.compile(flex_attention)


class FlexAttention(RelativeAttention):
    """The bias as a score modification. PyTorch has no backward pass of it for CPUs."""

    def forward(self, hidden_states: torch.Tensor, output_attentions: bool = False) -> tuple[torch.Tensor, None]:
        """As of [`RelativeAttention`]."""
        batch, height, width, _ = hidden_states.shape
        heads = self.num_attention_heads
        query, key, value = (
            self.qkv(hidden_states).view(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )
        rows, columns = relative_bias(
            query, lay_out(self.rel_pos_h, height, query.dtype), lay_out(self.rel_pos_w, width, query.dtype)
        )

        def with_bias(score, b, h, q, k):
            return score + rows[b, h, q, k // width] + columns[b, h, q, k % width]

        out = _compiled_flex(query, key, value, score_mod=with_bias, scale=self.scale)
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, -1)), None


def attention_of(form: str, width: int, heads: int, side: int) -> torch.nn.Module:
    """One attention module for a map of `side` x `side` cells; equal weights for every form."""
    config = SamVisionConfig(
        hidden_size=width, num_attention_heads=heads, num_hidden_layers=1, image_size=16 * side, window_size=0,
        global_attn_indexes=[0], initializer_range=0.02,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = SamVisionEncoder(config)
    module = encoder.layers[0].attn
    torch.nn.init.normal_(module.rel_pos_h, std=0.02)
    torch.nn.init.normal_(module.rel_pos_w, std=0.02)
    if form == "flex":
        module.__class__ = FlexAttention
    else:
        set_attention(encoder, form)
    return module.requires_grad_(False)


def time_steps(options: argparse.Namespace, device: torch.device) -> None:
    """Whole LoRA steps at some image sizes, in every form."""
    rows = []
    for model in options.models:
        for size in options.whole_steps:
            batch = random_batch(1, size, 2, device)
            variants: dict[str, Callable[[], None]] = {}
            for form in ("sdpa", "eager", "auto"):
                base = segmenter(model, size, attention=form, detail="none")
                adapted_model = adapted(base, Kind("lora", form), options.precision, device)
                variants[form] = lambda net=adapted_model, batch=batch: loss_of(
                    net, batch, device, options.precision
                ).backward()
            timed = alternate(variants, options.rounds, device)
            for form, seconds in timed.items():
                ratios = sorted(one / min(pair) for one, *pair in zip(seconds, timed["sdpa"], timed["eager"]))
                faster = ratios[len(ratios) // 2]
                rows.append(
                    {
                        "model": model,
                        "image": size,
                        "form": form,
                        **summarise(seconds),
                        "over the better of both": faster,
                    }
                )
    report(f"LoRA steps, forward and backward, {options.precision}", rows, options.output)


def main() -> None:
    """Times all forms in turn for every width and map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=WIDTHS, default=["vit-b"])
    parser.add_argument("--maps", nargs="+", choices=MAPS, default=list(MAPS))
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    add_output(parser)
    parser.add_argument("--whole-steps", nargs="+", type=int, metavar="SIZE", help="time LoRA steps at these sizes")
    options = parser.parse_args()
    device = resolve_device(options.device)
    if options.whole_steps:
        time_steps(options, device)
        return
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    forms = [form for form in FORMS if form != "auto"] + (["flex"] if device.type == "cuda" else [])
    rows = []
    for model in options.models:
        for name in options.maps:
            maps, side = MAPS[name]
            x = torch.randn(maps, side, side, WIDTHS[model][0], device=device, dtype=dtype, requires_grad=True)
            variants: dict[str, Callable[[], None]] = {}
            for form in forms:
                module = attention_of(form, *WIDTHS[model], side).to(device, dtype)
                variants[form] = lambda module=module, x=x: module(x)[0].sum().backward()
            stock = None
            for form, seconds in alternate(variants, options.rounds, device).items():
                spread = summarise(seconds)
                stock = spread["median"] if form == "sdpa" else stock
                rows.append({"model": model, "maps": name, "form": form, **spread})
            for row in rows[-len(forms) :]:
                row["over sdpa"] = row["median"] / (stock or 1.0)
    report(f"Attention, forward and backward, {options.precision}", rows, options.output)


if __name__ == "__main__":
    main()
