"""`convlora models`."""

from __future__ import annotations

from rich.table import Table

from convlora.cli.console import out, print_json
from convlora.cli.options import Json


def models(json: Json = False) -> None:
    """List the models that --model takes by name.

    Any other model of these kinds works too: give its Hugging Face id or its folder.
    """
    from convlora.known_models import CATALOGUE

    if json:
        print_json({"models": [entry._asdict() for entry in CATALOGUE]})
        return
    table = Table()
    table.add_column("model", no_wrap=True)
    for column in ("kind", "licence", "pixels", "encoder", "memory"):
        table.add_column(column)
    for entry in CATALOGUE:
        table.add_row(
            entry.source,
            entry.kind,
            entry.licence + (", gated" if entry.gated else ""),
            str(entry.image_size),
            f"{entry.million:.0f} M",
            "" if entry.step_gb is None else f"{entry.step_gb:.1f} GB",
        )
    out.print(table)
    out.print(
        "Pixels: the image size a model was made for. Others work, too. Memory: what a training step takes on one "
        "image of about 1024 pixels in single precision, measured with random weights. Scores were measured for "
        "tiny only.",
        soft_wrap=True,
    )
    out.print("Train one with: convlora train DATA --model MODEL --output RUN", soft_wrap=True)
