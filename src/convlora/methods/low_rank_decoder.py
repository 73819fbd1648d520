"""Low-rank updates in a mask decoder, in place of training the whole of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from convlora.errors import InputError

DECODER, TRANSFORMER = "mask_decoder", "transformer"


def adapt_decoder(model: nn.Module, target_modules: str, modules_to_save: Sequence[str]) -> tuple[str, list[str]]:
    """Adds the linear layers of the decoder's transformer to those that are adapted.

    The rest of the decoder is trained in full: tokens, what draws the masks, the classifier and the detail branch are
    small, or new. The norms of the transformer stay frozen.

    Args:
        model: The base model, with a `mask_decoder`.
        target_modules: The layers of the encoder as a regular expression.
        modules_to_save: What is trained in full otherwise, the decoder among it.

    Returns:
        Both for PEFT, with the layers of the decoder, and with its parts in its place.

    Raises:
        InputError: If the decoder is new.
    """
    decoder = model.get_submodule(DECODER)
    if getattr(decoder, "is_new", False):
        raise InputError(
            "The method lora-decoder adapts a pretrained mask decoder. This encoder has none: its decoder is new. "
            "Use the method lora, which trains the whole decoder, or a SAM."
        )
    parts: list[str] = []
    for name, part in decoder.named_children():
        # PEFT takes no lists of modules.
        inside = [f"{name}.{number}" for number in range(len(part))] if isinstance(part, nn.ModuleList) else [name]
        if name != TRANSFORMER and next(part.parameters(), None) is not None:
            parts += [f"{DECODER}.{one}" for one in inside]
    names = [name for name, one in decoder.get_submodule(TRANSFORMER).named_modules() if isinstance(one, nn.Linear)]
    layers = "|".join(sorted({name.replace(".", r"\.") for name in names}))
    others = [name for name in modules_to_save if name != DECODER]
    return rf"{target_modules}|(.*\.)?{DECODER}\.{TRANSFORMER}\.({layers})", [*parts, *others]
