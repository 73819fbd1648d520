import torch
from transformers import SamModel

from convlora.models.random_sam import random_sam
from tests.helpers.models import tiny_config


def test_depends_on_the_image_unlike_transformers_own_initialisation():
    config = tiny_config()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        embeddings = random_sam(config).get_image_embeddings(pixels)
        config.vision_config.initializer_range = 1e-10
        trap = SamModel(config).eval().get_image_embeddings(pixels)
    assert 0.1 < embeddings.std() < 10
    assert (embeddings[0] - embeddings[1]).abs().mean() > 0.1
    assert (trap[0] - trap[1]).abs().max() < 1e-3, "transformers' initialisation works now: this module can go"


def test_seed_decides_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, second, other = (random_sam(tiny_config(), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    name = "vision_encoder.layers.0.attn.qkv.weight"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_position_code_is_shared():
    sam = random_sam(tiny_config())
    assert torch.equal(
        sam.prompt_encoder.shared_embedding.positional_embedding, sam.shared_image_embedding.positional_embedding
    )
