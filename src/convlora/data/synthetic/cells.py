"""Roundish, touching cells on uneven tissue."""

import numpy as np
from PIL import Image

# Colours of stained tissue, 0..1. The two differ in hue more than in brightness, so that grey levels alone do not
# tell cells from the ground.
_GROUND = np.array([0.87, 0.62, 0.74])
_CELL_COLOURS = np.array([[0.50, 0.34, 0.68], [0.62, 0.46, 0.80], [0.42, 0.40, 0.74]])

_FEWEST_CELLS, _MOST_CELLS = 3, 12


def draw_cells(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws one image and its mask.

    Args:
        size: (height, width) in pixels around which the size varies.
        rng: Decides everything that is random.

    Returns:
        The image (h, w, 3) and the mask (h, w) of 0 and 255, both uint8.
    """
    height, width = (round(side * rng.uniform(0.94, 1.25)) for side in size)
    scale = min(height, width) / 256
    image = _tissue(height, width, rng)
    mask = np.zeros((height, width), dtype=bool)
    for row, column, radius in _places(height, width, scale, rng):
        depth = _depth(height, width, row, column, radius, rng)
        # The edge fades over a few pixels; a mask drawn by hand would go through its middle.
        softness = rng.uniform(1.0, 2.5) * scale
        cover = np.clip(depth / softness + 0.5, 0, 1)[..., None]
        image = image * (1 - cover) + _cell(depth, radius, rng) * cover
        mask |= depth > 0
    image = image * _shading(height, width, rng)[..., None] + rng.normal(0, 0.025, image.shape)
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8), mask.astype(np.uint8) * 255


def _smooth_noise(height: int, width: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of about unit spread whose grain is 1/cells of the image."""
    coarse = Image.fromarray(rng.normal(0, 1, (cells + 2, cells + 2)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)


def _tissue(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    clouds = 0.06 * _smooth_noise(height, width, 5, rng) + 0.05 * _smooth_noise(height, width, 14, rng)
    grain = 0.03 * _smooth_noise(height, width, 60, rng)
    # Fibres are the lines along which smooth noise changes sign; about as dark as cells, but of the ground's hue.
    fibres = np.exp(-((_smooth_noise(height, width, 6, rng) / 0.12) ** 2)) * rng.uniform(0.1, 0.3)
    brightness = 1 + clouds + grain - fibres
    hue = 0.02 * _smooth_noise(height, width, 4, rng)
    tint = _GROUND + rng.normal(0, 0.02, 3)
    return tint * brightness[..., None] + hue[..., None] * np.array([-1.0, 0.3, 1.0])


def _shading(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Uneven light: brighter towards a random side and darker in the corners."""
    down, right = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.25)
    slope = strength * (np.cos(angle) * right + np.sin(angle) * down)
    return 0.95 + slope - rng.uniform(0.05, 0.15) * (down**2 + right**2)


def _places(height: int, width: int, scale: float, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centres (row, column) and radii in pixels; about half of the cells touch another one."""
    places: list[tuple[float, float, float]] = []
    wanted = int(rng.integers(_FEWEST_CELLS, _MOST_CELLS + 1))
    for _ in range(50 * wanted):
        if len(places) == wanted:
            break
        radius = rng.uniform(11, 27) * scale
        if places and rng.random() < 0.5:
            near_row, near_column, near_radius = places[rng.integers(len(places))]
            angle, distance = rng.uniform(0, 2 * np.pi), 0.97 * (radius + near_radius)
            row, column = near_row + distance * np.sin(angle), near_column + distance * np.cos(angle)
        else:
            row, column = rng.uniform(0, height), rng.uniform(0, width)
        inside = 0 <= row < height and 0 <= column < width
        apart = all(np.hypot(row - r, column - c) > 0.9 * (radius + other) for r, c, other in places)
        if inside and apart:
            places.append((row, column, radius))
    return places


def _depth(height: int, width: int, row: float, column: float, radius: float, rng: np.random.Generator) -> np.ndarray:
    """How many pixels a point lies inside the outline of a cell, about; negative outside."""
    down, right = np.mgrid[:height, :width].astype(np.float64)
    down, right = down - row, right - column
    angle = np.arctan2(down, right)
    outline = np.full_like(angle, radius)
    for waves, most in ((2, 0.14), (3, 0.07), (5, 0.03)):
        outline += radius * rng.uniform(0, most) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return outline - np.hypot(down, right)


def _cell(depth: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """The colour of one cell everywhere: a darker rim, a mottled inside and a few dark grains."""
    height, width = depth.shape
    colour = _CELL_COLOURS[rng.integers(len(_CELL_COLOURS))] * rng.uniform(0.85, 1.3) + rng.normal(0, 0.02, 3)
    rim = 0.18 * np.exp(-((depth / (0.16 * radius)) ** 2))
    mottle = 0.07 * _smooth_noise(height, width, 40, rng)
    grains = 0.22 * (_smooth_noise(height, width, 36, rng) > 1.3)
    return colour * (1 + mottle - rim - grains)[..., None]
