"""What the encoder learns without prompts: figure, borders, extent of the thing at a place, what belongs together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

CELL = 4  # pixels; the decoder's masks have cells of this size
OFFSETS = ((0, 3), (3, 0), (3, 3), (3, -3), (0, 9), (9, 0), (9, 9), (9, -9))  # in cells


class DenseHead(nn.Module):
    """Predictions from image embeddings `(B, C, h, w)`, for each cell of 4 pixels and partly for each pixel.

    Source of the parts: Tian et al., "FCOS", 2019, for the extent; Gao et al., "SSAP", 2019, for the affinities.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(channels, 64, 2, 2), nn.GELU(), nn.ConvTranspose2d(64, 64, 2, 2), nn.GELU()
        )
        self.figure = nn.Conv2d(64, CELL * CELL, 1)
        self.border = nn.Conv2d(64, CELL * CELL, 1)
        self.extent = nn.Conv2d(64, 4, 1)
        self.together = nn.Conv2d(64, len(OFFSETS), 3, padding=1)

    def loss(self, embeddings: torch.Tensor, instances: torch.Tensor) -> dict[str, torch.Tensor]:
        """The four losses; `instances` `(B, H, W)`."""
        features = self.enlarge(embeddings)
        figure, border = (F.pixel_shuffle(head(features), CELL)[:, 0] for head in (self.figure, self.border))
        cells = instances[:, CELL // 2 :: CELL, CELL // 2 :: CELL]
        things = cells > 0
        extent = self.extent(features).permute(0, 2, 3, 1)[things]
        losses = {
            "figure": F.binary_cross_entropy_with_logits(figure, (instances > 0).float()),
            "border": F.binary_cross_entropy_with_logits(
                border, borders(instances).float(), pos_weight=torch.tensor(3.0, device=instances.device)
            ),
            "extent": F.smooth_l1_loss(extent, extents(cells)[things], beta=0.05) * 4,
        }
        same, known = affinities(cells)
        losses["together"] = F.binary_cross_entropy_with_logits(self.together(features), same, weight=known)
        return losses


def borders(instances: torch.Tensor) -> torch.Tensor:
    """Pixels `(B, H, W)` with another thing, or ground, beside them."""
    padded = F.pad(instances[:, None].float(), (1, 1, 1, 1), mode="replicate")
    highest, lowest = F.max_pool2d(padded, 3, 1), -F.max_pool2d(-padded, 3, 1)
    return (highest != lowest)[:, 0]


def boxes(instances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each thing in `(B, H, W)`: the box `(B, K, 4)` as left, top, right, bottom, and its cells `(B, K)`."""
    batch, height, width = instances.shape
    count = int(instances.max()) + 1
    flat = instances.flatten(1)
    rows = torch.arange(height, device=flat.device).repeat_interleave(width).expand(batch, -1)
    columns = torch.arange(width, device=flat.device).repeat(height).expand(batch, -1)

    def reduce(values: torch.Tensor, how: str, start: int) -> torch.Tensor:
        return torch.full((batch, count), start, device=flat.device).scatter_reduce(1, flat, values, how)

    area = torch.zeros(batch, count, dtype=torch.long, device=flat.device).scatter_add(1, flat, torch.ones_like(flat))
    box = [reduce(columns, "amin", width), reduce(rows, "amin", height),
           reduce(columns, "amax", -1) + 1, reduce(rows, "amax", -1) + 1]  # fmt: skip
    return torch.stack(box, dim=-1), area


def extents(cells: torch.Tensor) -> torch.Tensor:
    """Distance of each cell to the four sides of its thing's box, as shares of the image, `(B, h, w, 4)`."""
    batch, height, width = cells.shape
    box, _ = boxes(cells)
    own = box.gather(1, cells.flatten(1)[..., None].expand(-1, -1, 4)).view(batch, height, width, 4).float()
    rows = torch.arange(height, device=cells.device)[:, None] + 0.5
    columns = torch.arange(width, device=cells.device)[None] + 0.5
    return (
        torch.stack([columns - own[..., 0], rows - own[..., 1], own[..., 2] - columns, own[..., 3] - rows], -1) / width
    )


def affinities(cells: torch.Tensor, offsets: Sequence[tuple[int, int]] = OFFSETS) -> tuple[torch.Tensor, torch.Tensor]:
    """For each offset whether the cell there belongs to the same thing, and whether there is such a cell."""
    _, height, width = cells.shape
    same, known = [], []
    for down, right in offsets:
        rows = torch.arange(height, device=cells.device) + down
        columns = torch.arange(width, device=cells.device) + right
        inside = ((rows < height)[:, None] & ((columns >= 0) & (columns < width))[None]).float()
        other = cells[:, rows.clamp(max=height - 1)][:, :, columns.clamp(0, width - 1)]
        same.append((other == cells).float())
        known.append(inside.expand(cells.shape[0], -1, -1))
    return torch.stack(same, dim=1), torch.stack(known, dim=1)
