"""Which layers of a vision encoder there are for methods."""

from __future__ import annotations

import enum


class Layers(enum.Enum):
    """Which layers of a vision encoder a method changes. The module of the model knows their names."""

    PROJECTIONS = enum.auto()
    ATTENTION = enum.auto()
    BLOCK_OUTPUTS = enum.auto()
    SUBLAYERS = enum.auto()
    """Attention and MLP of every block, where both take feature maps."""
    MLP_MAPS = enum.auto()
    """The last linear layer of every MLP, where it takes feature maps."""
    LINEAR = enum.auto()
    """All linear layers of the blocks."""
    ALL = enum.auto()
    ENCODER = enum.auto()
    """The encoder as a whole."""
