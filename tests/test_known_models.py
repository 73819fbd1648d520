"""The catalogue says of each model what a model of its shape is like."""

import json

import pytest
import torch

from convlora.known_models import CATALOGUE, find_known, terms_of
from convlora.models.build import adapt
from convlora.models.encoder_segmenter import EncoderForSemanticSegmentation
from convlora.models.high_quality_segmenter import SamHQForSemanticSegmentation
from convlora.models.loading import load_segmenter
from convlora.models.sam2_segmenter import Sam2ForSemanticSegmentation
from convlora.models.sam3_segmenter import Sam3ForSemanticSegmentation
from convlora.models.segmenter import SamForSemanticSegmentation
from tests.helpers.architectures import SAM2S, SAM3S, SAM_HQS, SAMS, VITS, architecture

PUBLISHED = [entry for entry in CATALOGUE if entry.source != "tiny"]


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.source)
def test_an_entry_fits_its_shape(entry):
    """On the meta device, where weights of the true size take no memory; adapters go into all of its blocks."""
    with torch.device("meta"):
        model = architecture(entry.source)
        if entry.source in SAMS:
            segmenter = SamForSemanticSegmentation.from_sam(model)
        elif entry.source in SAM_HQS:
            segmenter = SamHQForSemanticSegmentation.from_sam(model)
        elif entry.source in SAM2S:
            segmenter = Sam2ForSemanticSegmentation.from_sam(model)
        elif entry.source in SAM3S:
            segmenter = Sam3ForSemanticSegmentation.from_sam(model)
        else:
            kind = EncoderForSemanticSegmentation.config_class(encoder_config=model.config)
            segmenter = EncoderForSemanticSegmentation(kind)
        million = sum(p.numel() for p in segmenter.vision_encoder.parameters()) / 1e6
        assert million == pytest.approx(entry.million, abs=0.06)
        facts = segmenter.encoder_facts()
        assert facts["kind"] == entry.kind
        assert list(segmenter.config.image_size) == [entry.image_size] * 2
        adapted = adapt(segmenter, "conv-lora", {})
    layers = sum(name.endswith("lora_experts") for name, _ in adapted.named_modules())
    blocks = facts["blocks"] if "blocks" in facts else sum(facts["blocks_of_stages"])
    assert layers == blocks * (3 if entry.source in (*VITS, *SAM3S) else 1)
    if entry.kind in ("SAM", "SAM-HQ") and entry.source.endswith("huge"):
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        assert trained / 1e6 < 0.01 * entry.million


def test_every_shape_has_an_entry():
    assert {entry.source for entry in PUBLISHED} == {*SAMS, *SAM_HQS, *SAM2S, *SAM3S, *VITS}


def test_the_bundled_one():
    entry, model = find_known("tiny"), load_segmenter("tiny")
    assert sum(p.numel() for p in model.vision_encoder.parameters()) / 1e6 == pytest.approx(entry.million, abs=0.06)
    assert list(model.config.image_size) == [entry.image_size] * 2


def test_terms_are_told_of_what_is_not_free():
    assert terms_of("facebook/sam-vit-base") is None
    assert terms_of("somebody/something") is None
    for entry in CATALOGUE:
        told = terms_of(entry.source)
        assert (told is not None) == (entry.licence not in ("Apache-2.0", "MIT") or entry.gated)
        assert told is None or (entry.licence in told and entry.source in told)


def test_the_command_lists_them(capsys):
    from convlora.cli.models import models

    models(json=True)
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])["models"]
    assert [one["source"] for one in listed] == [entry.source for entry in CATALOGUE]
    models(json=False)
    shown = capsys.readouterr().out
    assert all(entry.source in shown for entry in CATALOGUE)
