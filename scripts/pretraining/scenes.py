"""Scenes as batches of tensors, decided by a seed and a number alone, however many processes draw them."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from convlora.data.synthetic import SceneStyle, draw_scene
from convlora.data.transforms import IMAGE_MEAN, IMAGE_STD

EASY = SceneStyle(things=(1, 4), radius=(0.15, 0.4), groups=0.05, distortion=0.3)
HARD = SceneStyle(things=(3, 14), radius=(0.04, 0.35), groups=0.3, distortion=1.0, thin=0.12, small=0.12)


def style_at(difficulty: float) -> SceneStyle:
    """Between [`EASY`] (0) and [`HARD`] (1)."""

    def mix(easy: float, hard: float) -> float:
        return easy + difficulty * (hard - easy)

    return SceneStyle(
        things=(round(mix(EASY.things[0], HARD.things[0])), round(mix(EASY.things[1], HARD.things[1]))),
        radius=(mix(EASY.radius[0], HARD.radius[0]), mix(EASY.radius[1], HARD.radius[1])),
        groups=mix(EASY.groups, HARD.groups),
        distortion=mix(EASY.distortion, HARD.distortion),
        thin=mix(EASY.thin, HARD.thin),
        small=mix(EASY.small, HARD.small),
    )


class SceneBatches(Dataset):
    """Batch number n of a training: images `(B, 3, 256, 256)` and instances `(B, 256, 256)`.

    Args:
        start: Number of the first batch.
        stop: Number after the last.
        batch_size: Scenes in a batch.
        harden: Batches after which scenes are as hard as they get; a quarter of them stays easier for good.
        seed: Seed of everything that is drawn.
    """

    def __init__(self, start: int, stop: int, batch_size: int, harden: int, seed: int) -> None:
        self.start, self.stop, self.batch_size, self.harden, self.seed = start, stop, batch_size, harden, seed

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        number = self.start + index
        rng = np.random.default_rng((self.seed, number))
        most = min(1.0, number / max(self.harden, 1))
        styles = [style_at(most if rng.random() < 0.75 else rng.uniform(0, most)) for _ in range(self.batch_size)]
        return batch_of([draw_scene(rng, style) for style in styles])


def held_out(count: int, style: SceneStyle, seed: int = 10**6) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes that no training sees."""
    return batch_of([draw_scene(np.random.default_rng((seed, number)), style) for number in range(count)])


def batch_of(scenes: list) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `(B, 3, H, W)` as the model wants them, and instances `(B, H, W)`, int64."""
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(IMAGE_MEAN).view(3, 1, 1), torch.tensor(IMAGE_STD).view(3, 1, 1)
    instances = torch.from_numpy(np.stack([scene.instances for scene in scenes]).astype(np.int64))
    return (images - mean) / std, instances
