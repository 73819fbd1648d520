from types import SimpleNamespace

import pytest
import torch

from convlora import SamForSemanticSegmentation
from convlora.models.unet import UNetForSemanticSegmentation, UNetSegmentationConfig
from convlora.recipes import recipe_names
from convlora.training.config import RunConfig
from convlora.training.defaults import default_warm_up, settle_choices, settle_epochs, settle_rates
from tests.helpers.models import tiny_sam


def settled_rates(model, method="conv-lora", **training):
    config = RunConfig()
    config.update({"training": training, "method": method}, origin="a test")
    settle_rates(config, model)
    return config.training.lr, config.training.lr_detail


def wide_sam(detail):
    """As wide as ViT-B, as far as is asked."""
    config = SimpleNamespace(encoder_width=768)
    branch = torch.nn.Identity() if detail else None
    return SimpleNamespace(
        vision_encoder=torch.nn.Identity(), config=config, mask_decoder=SimpleNamespace(detail=branch)
    )


def test_rates_depend_on_the_sam_and_what_is_fresh():
    narrow = SamForSemanticSegmentation.from_sam(tiny_sam(), detail="half")
    assert settled_rates(narrow) == (1e-3, None), "the branch learns as everything does"
    assert settled_rates(wide_sam(detail=True)) == (1e-4, 1e-3)
    assert settled_rates(wide_sam(detail=False)) == (1e-4, None)
    unet = UNetForSemanticSegmentation(UNetSegmentationConfig(width=8, image_size=(32, 32)))
    assert settled_rates(unet, "unet") == (1e-3, None)


def test_training_that_goes_on_is_slower():
    def rates(model, fresh_detail, **training):
        config = RunConfig()
        config.update({"training": training, "model": {"from_run": "a run"}}, origin="a test")
        settle_rates(config, model, fresh_detail=fresh_detail)
        return config.training.lr, config.training.lr_detail

    assert rates(wide_sam(detail=True), False) == (3e-5, 3e-4)
    assert rates(wide_sam(detail=True), True) == (3e-5, 1e-3)
    assert rates(wide_sam(detail=True), False, lr=1e-3) == (1e-3, 1e-3)
    assert rates(wide_sam(detail=True), True, lr=3e-5, lr_detail=3e-4) == (3e-5, 3e-4), "as it is resumed"
    assert rates(wide_sam(detail=False), False) == (3e-5, None)
    assert default_warm_up(20, goes_on=True) == 5
    assert default_warm_up(1000, goes_on=True) == default_warm_up(1000)


def test_what_is_given_stays():
    assert settled_rates(wide_sam(detail=True), lr=2e-4) == (2e-4, 1e-3)
    assert settled_rates(wide_sam(detail=True), lr=3e-3) == (3e-3, None)
    assert settled_rates(wide_sam(detail=True), lr_detail=5e-5) == (1e-4, 5e-5)
    config = RunConfig()
    config.update({"data": {"augmentation": "none"}, "training": {"loss": "structure", "ema": 0.5}}, origin="a test")
    settle_choices(config)
    assert (config.data.augmentation, config.training.loss, config.training.ema) == ("none", "structure", 0.5)


def test_fewer_images_are_seen_more_often():
    def epochs(images, **training):
        config, said = RunConfig(), []
        config.update({"training": training}, origin="a test")
        settle_epochs(config, images, said.append)
        assert bool(said) == (not training)
        return config.training.epochs

    assert epochs(3) > epochs(30) > epochs(150) > epochs(1500) == epochs(10**6) >= 10
    assert epochs(3) == epochs(1)
    assert epochs(30, epochs=7) == 7
    assert epochs(30, max_steps=7) is None
    assert epochs(30, budget_seconds=60) is None


def test_short_runs_rise_for_a_part_of_their_time():
    assert [default_warm_up(steps) for steps in (1, 20, 100_000)] == [0, 1, default_warm_up(10_000)]
    assert all(default_warm_up(steps) < steps for steps in range(1, 100))


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_leave_nothing_to_these_defaults(name):
    """They are published settings."""
    config = RunConfig.load(f"recipe:{name}")
    before = config.to_dict()
    settle_choices(config)
    settle_epochs(config, 10, lambda text: None)
    settle_rates(config, wide_sam(detail=config.model.detail != "none"))
    settled = config.to_dict()
    several = before["training"]["loss"] is None and "miou" in before["training"]["select_by"]
    if several:  # the head decides
        before["training"]["loss"] = settled["training"]["loss"]
    assert settled == before
    assert config.training.warmup_steps == 0
