"""Random changes of images and their labels for training: drawn image by image, made in whole batches on the device."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from convlora.errors import InputError

# How many versions of an image an augmentation makes; None: no two are alike.
VERSIONS: dict[str, int | None] = {"none": 1, "flip": 2, "flips": 4, "strong": None}
AUGMENTATIONS = tuple(VERSIONS)

_DEGREES, _SHEAR = 20.0, 5.0
_SHIFT = 0.1  # of the side
_SCALES = (0.75, 1.5)
_JITTER, _HUE = 0.25, 0.05  # of brightness, contrast and saturation; in turns of the circle of colours
_BLUR = (0.1, 1.0)  # standard deviation in pixels
_WARPED, _COLOURED, _BLURRED = 0.8, 0.8, 0.2  # shares of the images

# Where the numbers of a change stand.
_MIRRORED, _UPSIDE_DOWN, _TRANSPOSED, _IS_WARPED, _IS_COLOURED, _IS_BLURRED = range(6)
_THETA, _FACTORS, _SIGMA = slice(6, 12), slice(12, 16), slice(16, 17)


class Augmentation:
    """Random changes of images and their labels, reproducible by seed.

    `"none"` changes nothing; `"flip"` mirrors left and right with probability 0.5; `"flips"` also mirrors up and
    down; `"strong"` adds quarter turns, moderate rotation, scaling, shear and shifts, and changes of colour and
    sharpness. Labels move with the image by nearest neighbour; what comes from outside the image is ignored.

    [`Augmentation.draw`] draws a few numbers for each image, in the process that reads it. [`Augmentation.apply`]
    changes a whole batch on the device, in the same way on all devices and without making a GPU wait.

    Mirroring and quarter turns move pixels without interpolation; images that are not square are turned by half turns
    only.

    Args:
        name: One of `AUGMENTATIONS`.
        ignore_index: Label for pixels that come from outside the image.
        is_colour: Whether the channels are red, green and blue. Other bands change in brightness and contrast
            only, and all alike: there is no saturation or hue of infrared, and what a band says by its relation
            to the others is what it is there for.

    Raises:
        InputError: There is no augmentation of that name.

    Source:
        The left-right flip is the augmentation of Zhong et al., "Convolution Meets LoRA" (ICLR 2024); the others
        are this package's own.
    """

    def __init__(self, name: str = "flip", ignore_index: int = 255, *, is_colour: bool = True) -> None:
        if name not in AUGMENTATIONS:
            raise InputError(f"data.augmentation is {name!r}; choose one of {', '.join(AUGMENTATIONS)}.")
        self.name = name
        self.ignore_index = ignore_index
        self.is_colour = is_colour

    def draw(self, seed: int, image_size: tuple[int, int]) -> torch.Tensor:
        """Draws the changes of one image.

        Args:
            seed: Any whole number; the same seed gives the same changes. No global generator is touched.
            image_size: (height, width) in pixels.

        Returns:
            The changes, for [`Augmentation.apply`]: `(n,)` float32, where `n` is 0 if there are none to make.
        """
        if self.name == "none":
            return torch.zeros(0)
        generator = torch.Generator().manual_seed(seed)

        def uniform(low: float = 0.0, high: float = 1.0) -> float:
            return low + (high - low) * float(torch.rand(1, generator=generator))

        mirrored = uniform() < 0.5
        if self.name == "flip":
            return torch.tensor([mirrored, False], dtype=torch.float32)
        upside_down = uniform() < 0.5
        if self.name == "flips":
            return torch.tensor([mirrored, upside_down], dtype=torch.float32)
        height, width = image_size
        # Every quarter turn and mirror image is one of these eight, each as likely as the others.
        transposed = uniform() < 0.5 and height == width
        flags = [mirrored, upside_down, transposed, *(uniform() < share for share in (_WARPED, _COLOURED, _BLURRED))]
        theta = _sampling(
            degrees=uniform(-_DEGREES, _DEGREES),
            shear=uniform(-_SHEAR, _SHEAR),
            scale=uniform(*_SCALES),
            shift=(uniform(-_SHIFT, _SHIFT), uniform(-_SHIFT, _SHIFT)),
            image_size=image_size,
        )
        factors = [uniform(1 - _JITTER, 1 + _JITTER) for _ in range(3)]
        hue = 2 * math.pi * uniform(-_HUE, _HUE)
        return torch.tensor([*map(float, flags), *theta, *factors, hue, uniform(*_BLUR)], dtype=torch.float32)

    def apply(
        self, images: torch.Tensor, labels: torch.Tensor, changes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Makes the changes that were drawn.

        Args:
            images: `(B, C, h, w)`, uint8.
            labels: Class indices `(B, h, w)` of any integer type.
            changes: Changes for each image, `(B, n)`, on the device of the images.

        Returns:
            The changed images, intensities 0..1, float32, and labels, int64; of the same shapes.
        """
        if self.name != "none":
            for flag, dim in ((_MIRRORED, -1), (_UPSIDE_DOWN, -2)):
                images = _where(changes[:, flag], images.flip(dim), images)
                labels = _where(changes[:, flag], labels.flip(dim), labels)
        if self.name != "strong":
            return intensities(images), labels.long()
        if images.shape[-1] == images.shape[-2]:
            images = _where(changes[:, _TRANSPOSED], images.transpose(-1, -2), images)
            labels = _where(changes[:, _TRANSPOSED], labels.transpose(-1, -2), labels)
        pixels, labels = self._warp(intensities(images), labels.long(), changes)
        changed = _recolour(pixels, changes) if self.is_colour else _rescale(pixels, changes)
        return _blur(changed, changes).clamp(0, 1), labels

    def _warp(
        self, pixels: torch.Tensor, labels: torch.Tensor, changes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        is_warped = changes[:, _IS_WARPED]
        if not _may_be_needed(is_warped):
            return pixels, labels
        height, width = labels.shape[-2:]
        y = ((2 * torch.arange(height, device=pixels.device) + 1) / height - 1).view(1, height, 1)
        x = ((2 * torch.arange(width, device=pixels.device) + 1) / width - 1).view(1, 1, width)
        a, b, c, d, e, f = changes[:, _THETA, None, None].unbind(1)  # (B, 1, 1) each
        # Not by torch's affine_grid: its matrix product may be computed in TF32, which cannot tell pixels apart.
        grid = torch.stack([a * x + b * y + c, d * x + e * y + f], dim=-1)  # (B, h, w, 2)
        warped = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        # Outside are zeros; shifting the labels up by one makes that zero mean "outside".
        shifted = (labels + 1).float()[:, None]
        moved = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0].long()
        moved = torch.where(moved == 0, self.ignore_index, moved - 1)
        return _where(is_warped, warped, pixels), _where(is_warped, moved, labels)


def intensities(images: torch.Tensor) -> torch.Tensor:
    """From uint8 of any shape to intensities 0..1, float32."""
    return images.float().div_(255.0)


def _recolour(pixels: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
    if not _may_be_needed(changes[:, _IS_COLOURED]):
        return pixels
    from kornia import enhance  # slow to import, and needed here alone

    brightness, contrast, saturation, hue = changes[:, _FACTORS].unbind(1)
    changed = enhance.adjust_brightness_accumulative(pixels, brightness)
    changed = enhance.adjust_contrast_with_mean_subtraction(changed, contrast)
    changed = enhance.adjust_saturation_with_gray_subtraction(changed, saturation)
    return _where(changes[:, _IS_COLOURED], enhance.adjust_hue(changed, hue), pixels)


def _rescale(pixels: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
    """Other brightness and contrast for all bands of an image alike, as [`_recolour`] changes grey."""
    if not _may_be_needed(changes[:, _IS_COLOURED]):
        return pixels
    brightness, contrast = changes[:, _FACTORS].unbind(1)[:2]
    changed = (pixels * brightness.view(-1, 1, 1, 1)).clamp(0, 1)
    mean = changed.mean(dim=(-2, -1), keepdim=True)
    changed = (mean + (changed - mean) * contrast.view(-1, 1, 1, 1)).clamp(0, 1)
    return _where(changes[:, _IS_COLOURED], changed, pixels)


def _blur(pixels: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
    if not _may_be_needed(changes[:, _IS_BLURRED]) or min(pixels.shape[-2:]) < 3:  # too small to be mirrored
        return pixels
    from kornia.filters import gaussian_blur2d

    sigma = changes[:, _SIGMA].expand(-1, 2)
    return _where(changes[:, _IS_BLURRED], gaussian_blur2d(pixels, (5, 5), sigma), pixels)


def _may_be_needed(flags: torch.Tensor) -> bool:
    """Whether an image of the batch is changed; a GPU is not asked, because that would make it wait."""
    return flags.device.type != "cpu" or bool(flags.any())


def _where(flags: torch.Tensor, changed: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Of each image of a batch the changed or the kept form. A GPU is not asked which, so nobody waits for it."""
    return torch.where(flags.view(-1, *(1,) * (kept.ndim - 1)) > 0, changed, kept)


def _sampling(
    degrees: float, shear: float, scale: float, shift: tuple[float, float], image_size: tuple[int, int]
) -> list[float]:
    """Where each pixel of the result comes from, as the six numbers of a matrix on coordinates from -1 to 1.

    Args:
        degrees: Turn about the centre, in degrees.
        shear: Along the width, in degrees.
        scale: Above 1 things grow.
        shift: Across and down, as shares of the sides.
        image_size: (height, width) in pixels.
    """
    angle, slope = math.radians(degrees), -math.tan(math.radians(shear))  # signs as kornia's
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    back = np.linalg.inv(scale * turn @ np.array([[1.0, slope], [0.0, 1.0]]))
    sides = np.array([image_size[1], image_size[0]], dtype=float)
    moved = back @ (np.array(shift) * sides)
    linear = back * sides[None, :] / sides[:, None]
    return [*linear[0], -2 * moved[0] / sides[0], *linear[1], -2 * moved[1] / sides[1]]
