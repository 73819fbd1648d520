"""Textures: fields of grey values of zero mean and unit spread, and colours for them."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageFilter

_BANK_SIDE = 512
_BANK_SEED = 20240501
_NUM_PLAIN = 12


@functools.cache
def bank() -> np.ndarray:
    """The textures that scenes cut their pieces from, `(T, 512, 512)`, float32; every one tiles.

    A third each: noise with the power spectrum of natural images (amplitude falling as a power between 0.5 and 2 of
    the frequency), the same stretched in one direction, and stripes, spots or cells made of it.

    Source of the spectrum: Field, "Relations between the statistics of natural images and the response properties of
    cortical cells", 1987.
    """
    rng = np.random.default_rng(_BANK_SEED)
    fields = []
    for power in np.linspace(0.5, 2.0, _NUM_PLAIN):
        fields.append(_power_noise(rng, power))
    for power in np.linspace(0.7, 1.8, 12):
        fields.append(_power_noise(rng, power, stretch=rng.uniform(2, 6), angle=rng.uniform(0, np.pi)))
    for number in range(12):
        fields.append(_pattern(rng, number))
    return np.stack(fields).astype(np.float32)


def cut(rng: np.random.Generator, height: int, width: int, plain: bool = False) -> np.ndarray:
    """A random piece of a random texture, enlarged at random, `(height, width)`, float32; `plain`: no pattern."""
    fields = bank()[:_NUM_PLAIN] if plain else bank()
    field = fields[rng.integers(len(fields))]
    zoom = rng.choice((1, 1, 2, 3))
    rows, columns = -(-height // zoom), -(-width // zoom)
    top = rng.integers(_BANK_SIDE - rows + 1) if rows < _BANK_SIDE else 0
    left = rng.integers(_BANK_SIDE - columns + 1) if columns < _BANK_SIDE else 0
    if rows > _BANK_SIDE or columns > _BANK_SIDE:
        piece = np.take(np.take(field, np.arange(rows), 0, mode="wrap"), np.arange(columns), 1, mode="wrap")
    else:
        piece = field[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    if zoom == 1:
        return piece
    image = Image.fromarray(np.ascontiguousarray(piece))
    return np.asarray(image.resize((columns * zoom, rows * zoom), Image.Resampling.BILINEAR))[:height, :width]


def colour(rng: np.random.Generator, spread: float = 0.25) -> np.ndarray:
    """A random colour, 0..1, `(3,)`: brightness varies most, as in photographs, then blue-yellow, then red-green."""
    brightness = rng.uniform(0.08, 0.92)
    warm, green = rng.normal(0, spread * 0.6), rng.normal(0, spread * 0.3)
    return np.clip(np.array([brightness + warm, brightness + green, brightness - warm], dtype=np.float32), 0, 1)


def paint(
    rng: np.random.Generator, height: int, width: int, base: np.ndarray | None = None, plain: bool = False
) -> np.ndarray:
    """A textured surface, `(height, width, 3)`, about 0..1, float32: two colours mixed by a texture.

    Args:
        rng: Decides everything that is random.
        height: In pixels.
        width: In pixels.
        base: The first colour, `(3,)`; a random one if left out.
        plain: Low contrast, no pattern and no second colour.
    """
    first = colour(rng) if base is None else base
    if plain:
        mix = cut(rng, height, width, plain=True) + np.float32(0.5) * cut(rng, height, width, plain=True)
        return _mixed(first, mix, first * rng.uniform(0.03, 0.12))
    contrast = rng.uniform(0.0, 0.16) ** 1.2
    difference = rng.normal(0, 1, 3) * contrast * 0.5 + rng.normal() * contrast
    surface = _mixed(first, cut(rng, height, width), difference)
    if rng.random() < 0.3:  # a second, finer texture in another direction of colour
        surface = _mixed(surface, cut(rng, height, width), rng.normal(0, 0.03, 3))
    return surface


def _mixed(start: np.ndarray, texture: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A colour or surface moved along a direction of colour by a texture, `(height, width, 3)`, float32.

    Its memory is ordered by channel, for which arithmetic is several times faster.
    """
    planes = texture * direction.astype(np.float32)[:, None, None]
    planes += start[:, None, None] if start.ndim == 1 else np.moveaxis(start, -1, 0)
    return np.moveaxis(planes, 0, -1)


def slope(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """Light from one side, around 1, `(height, width, 1)`, float32."""
    angle = rng.uniform(0, 2 * np.pi)
    rows = _ramp(height)[:, None] * np.float32(strength * np.sin(angle)) + np.float32(1)
    columns = _ramp(width)[None] * np.float32(strength * np.cos(angle))
    return (rows + columns)[..., None]


@functools.lru_cache(maxsize=1024)
def _ramp(length: int) -> np.ndarray:
    return np.linspace(-1, 1, length, dtype=np.float32)


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(_BANK_SIDE)[:, None] * _BANK_SIDE, np.fft.rfftfreq(_BANK_SIDE)[None] * _BANK_SIDE


def _power_noise(rng: np.random.Generator, power: float, stretch: float = 1.0, angle: float = 0.0) -> np.ndarray:
    down, right = _frequencies()
    along = down * np.sin(angle) + right * np.cos(angle)
    across = (right * np.sin(angle) - down * np.cos(angle)) / stretch
    radius = np.maximum(np.hypot(along, across), 2.0)
    spectrum = np.fft.rfft2(rng.normal(size=(_BANK_SIDE, _BANK_SIDE))) * radius**-(power)
    spectrum[0, 0] = 0
    return _standard(np.fft.irfft2(spectrum, s=(_BANK_SIDE, _BANK_SIDE)))


def _band_noise(rng: np.random.Generator, wavelength: float) -> np.ndarray:
    """Noise of one wavelength in pixels: blotches of one size."""
    down, right = _frequencies()
    centre = _BANK_SIDE / wavelength
    radius = np.hypot(down, right)
    spectrum = np.fft.rfft2(rng.normal(size=(_BANK_SIDE, _BANK_SIDE)))
    spectrum = spectrum * np.exp(-(((radius - centre) / (0.25 * centre)) ** 2))
    return _standard(np.fft.irfft2(spectrum, s=(_BANK_SIDE, _BANK_SIDE)))


def _pattern(rng: np.random.Generator, number: int) -> np.ndarray:
    wavelength = rng.uniform(6, 32)
    kind = number % 3
    if kind == 0:  # stripes, bent by slow noise
        places = np.arange(_BANK_SIDE)
        phase = places[:, None] * rng.integers(-60, 60) + places[None] * rng.integers(8, 60)
        field = np.sin(2 * np.pi * phase / _BANK_SIDE + 1.2 * _power_noise(rng, 2.0))
    elif kind == 1:  # spots
        field = np.tanh(4 * (_band_noise(rng, wavelength) - 0.8))
    else:  # a net of ridges
        field = -(np.abs(_band_noise(rng, 2 * wavelength)) ** 0.5)
    return _standard(field + 0.15 * _power_noise(rng, 0.7))


def _standard(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()


def smooth(mask: np.ndarray, radius: float) -> np.ndarray:
    """A mask of 0 and 1 with an edge that fades over about `radius` pixels, float32."""
    if radius < 0.3:
        return mask.astype(np.float32)
    image = Image.fromarray(mask).convert("L").filter(ImageFilter.BoxBlur(1.5 * radius))
    return np.asarray(image) * np.float32(1 / 255)
