"""The attention of one block with its projections, in every form and by every fused kernel."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from attention import attention_of
from kinds import SIZES
from torch.nn.attention import SDPBackend, sdpa_kernel

from convlora.models.attention import RelativeAttention, lengthen, relative_bias
from gpu_parts.session import Plan, Task, Unavailable
from gpu_parts.stepping import timed

BACKENDS = {
    "PyTorch's choice": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class ChannelAttention(RelativeAttention):
    """The bias as more channels, with a choice of the kernel and of how many channels the values have."""

    backend: SDPBackend | None = None
    pads_values = True

    def forward(self, hidden_states: torch.Tensor, output_attentions: bool = False) -> tuple[torch.Tensor, None]:
        """As of [`RelativeAttention`]."""
        batch, height, width, _ = hidden_states.shape
        heads = self.num_attention_heads
        query, key, value = (
            self.qkv(hidden_states).view(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )
        tables = self._bias_tables((height, width), query.dtype, 1 / self.scale)
        long_query, long_key = lengthen(query, key, *relative_bias(query, *tables))
        # Kernels that want as many channels in the values would multiply with zeros.
        values = F.pad(value, (0, long_query.shape[-1] - value.shape[-1])) if self.pads_values else value
        with nullcontext() if self.backend is None else sdpa_kernel(self.backend):
            out = F.scaled_dot_product_attention(long_query, long_key, values, scale=self.scale)
        out = out[..., : value.shape[-1]]
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, -1)), None


def tasks(plan: Plan) -> Iterator[Task]:
    """Every form on windows and on the whole map, for every width."""
    for size in plan.step_batches:
        for maps, (count, side) in plan.maps.items():
            where = f"{size}, {maps}"
            for form in ("vectors", "sdpa", "eager", "blocks"):

                def of_form(size: str = size, count: int = count, side: int = side, form: str = form) -> dict[str, Any]:
                    return measure(size, count, side, plan, form=form)

                yield Task(f"{where}, {form}", of_form, needs=5)
            for backend in BACKENDS:
                for pads in (True, False):

                    def of_kernel(
                        size: str = size,
                        count: int = count,
                        side: int = side,
                        backend: str = backend,
                        pads: bool = pads,
                    ) -> dict[str, Any]:
                        return measure(size, count, side, plan, backend=backend, pads=pads)

                    values = "values padded" if pads else "values not padded"
                    yield Task(f"{where}, {backend}, {values}", of_kernel, needs=5)


def measure(
    size: str, count: int, side: int, plan: Plan, *, form: str | None = None, backend: str = "", pads: bool = True
) -> dict[str, Any]:
    """Milliseconds and GiB, forward and backward; how far the output is from the eager form's."""
    dtype = DTYPES[plan.precision]
    width, heads = SIZES[size]["hidden_size"], SIZES[size]["num_attention_heads"]
    with plan.device:  # random weights are drawn there, alike for both
        eager, module = (attention_of(one, width, heads, side).to(dtype) for one in ("eager", form or "vectors"))
    if form is None:
        module.__class__ = ChannelAttention
        module.backend, module.pads_values = BACKENDS[backend], pads
    x = torch.randn(count, side, side, width, device=plan.device, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        expected = eager(x[:1])[0].float()

    def work() -> None:
        x.grad = None
        out = module(x)[0]
        out.backward(torch.ones_like(out))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with torch.no_grad():
                apart = (module(x[:1])[0].float() - expected).norm() / expected.norm()
            work()
        except RuntimeError as error:
            if form is not None or isinstance(error, torch.OutOfMemoryError):
                raise
            reasons = [str(one.message).split(" (Triggered")[0] for one in caught]
            raise Unavailable(f"not accepted: {' '.join([str(error), *reasons])}"[:400]) from None
    seconds, memory = timed(work, plan)
    return {"ms": 1e3 * statistics.median(seconds), **memory, "difference": apart.item()}
