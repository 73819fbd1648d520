"""The segmenters do what everybody who knows transformers expects of a model for semantic segmentation."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForSemanticSegmentation,
    SegformerImageProcessorPil,
    Trainer,
    TrainingArguments,
    pipeline,
)

from convlora.models import (
    SamForSemanticSegmentation,
    SamSegmentationConfig,
    UNetForSemanticSegmentation,
    UNetSegmentationConfig,
)
from tests.helpers.models import tiny_sam

NETWORKS = ["sam", "unet"]
HEADS = {"binary": {}, "mask-classification": {"num_classes": 3}, "per-pixel": {"num_classes": 3, "head": "per-pixel"}}
CASES = [
    (network, head) for network in NETWORKS for head in HEADS if (network, head) != ("unet", "mask-classification")
]


def segmenter(network="sam", **task):
    torch.manual_seed(0)
    if network == "unet":
        return UNetForSemanticSegmentation(UNetSegmentationConfig(width=8, image_size=64, **task)).eval()
    return SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=64, **task).eval()


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize("network", NETWORKS)
def test_two_classes_have_two_logits_that_anybody_can_read(network, pixels):
    model = segmenter(network)
    with torch.no_grad():
        output = model(pixels)
    z = output.foreground
    z = z - z.median()  # a random network says the same of nearly all pixels
    output.logits = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(output.logits.softmax(dim=1)[:, 1:], z.sigmoid())
    sizes = [(64, 64), (50, 90)]
    maps = SegformerImageProcessorPil().post_process_semantic_segmentation(output, target_sizes=sizes)
    for index, (found, size) in enumerate(zip(maps, sizes, strict=True)):
        foreground = F.interpolate(z[index][None], size=size, mode="bilinear", align_corners=False)[0, 0] > 0
        assert 0.2 < foreground.float().mean() < 0.8
        assert torch.equal(found == 1, foreground)


@pytest.mark.parametrize(("network", "head"), CASES)
def test_logits_are_one_per_class_and_the_first_of_a_tuple_in_training_and_evaluation(network, head, pixels):
    model, classes = segmenter(network, **HEADS[head]), HEADS[head].get("num_classes", 2)
    labels = torch.randint(0, classes, (2, 64, 64))
    with torch.no_grad():
        for _ in range(2):
            torch.manual_seed(1)  # mask classification looks at random points
            output = model(pixels, labels=labels)
            assert output.logits.shape[:2] == (2, classes)
            torch.manual_seed(1)
            values = model(pixels, labels=labels, return_dict=False)
            assert list(output.keys())[:2] == ["loss", "logits"]
            assert all(torch.equal(value, output[name]) for name, value in zip(output.keys(), values, strict=True))
            assert torch.equal(model(pixels, return_dict=False)[0], output.logits)
            model.train()
        model.config.return_dict = False
        assert isinstance(model(pixels), tuple)


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_no_argument_is_refused(network, pixels):
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    with pytest.raises(TypeError, match="label"):
        segmenter(network)(pixels, label=labels)


@pytest.mark.parametrize("network", NETWORKS)
def test_class_weights_go_where_the_model_goes_and_into_no_file(network):
    model = segmenter(network, num_classes=3)
    model.class_weights = torch.ones(3)
    assert model.to("meta").class_weights.device.type == "meta"
    assert not any("class_weights" in name for name in model.state_dict())


# ---- names and numbers of classes ----


@pytest.mark.parametrize("config", [SamSegmentationConfig, UNetSegmentationConfig])
def test_labels_follow_the_classes(config, tmp_path):
    names = {0: "ground", 1: "road", 2: "roof"}
    assert config().num_classes == config().num_labels == len(config().id2label) == 2
    for given in ({"num_classes": 3}, {"num_labels": 3}, {"num_classes": 3, "num_labels": 3}):
        settled = config(**given)
        assert (settled.num_classes, settled.num_labels, len(settled.id2label), len(settled.label2id)) == (3, 3, 3, 3)
    for given in (
        {"id2label": names},
        {"label2id": {n: i for i, n in names.items()}},
        {"id2label": names, "num_classes": 3},
    ):
        settled = config(**given)
        assert settled.num_classes == 3
        assert settled.id2label == names
        assert settled.label2id["roof"] == 2
    settled.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert (again.num_classes, again.id2label) == (3, names)
    settled.num_classes = 4
    assert len(settled.id2label) == 4


@pytest.mark.parametrize("config", [SamSegmentationConfig, UNetSegmentationConfig])
@pytest.mark.parametrize(
    "given",
    [
        {"num_classes": 3, "num_labels": 4},
        {"num_classes": 4, "id2label": {0: "a", 1: "b", 2: "c"}},
        {"id2label": {1: "a", 2: "b"}},
        {"num_classes": "3"},
        {"num_classes": True},
        {"num_labels": 1},
    ],
)
def test_contradictions_and_impossible_numbers_are_refused(config, given):
    with pytest.raises(ValueError, match=r"num_classes|num_labels|id2label"):
        config(**given)


def test_files_of_older_versions_say_num_classes(tmp_path):
    segmenter(num_classes=5, num_mask_tokens=7).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["id2label"], settings["label2id"]
    (tmp_path / "config.json").write_text(json.dumps({**settings, "num_classes": 5}))
    config = SamForSemanticSegmentation.from_pretrained(tmp_path).config
    assert (config.num_classes, config.num_labels, config.mask_tokens_in_use) == (5, 5, 7)


def test_names_are_given_when_a_sam_is_loaded(tmp_path):
    tiny_sam().save_pretrained(tmp_path / "sam")
    names = {0: "ground", 1: "road", 2: "roof"}
    model = AutoModelForSemanticSegmentation  # knows our folders, not a SAM
    ours = SamForSemanticSegmentation.from_pretrained(tmp_path / "sam", id2label=names)
    ours.save_pretrained(tmp_path / "own")
    assert model.from_pretrained(tmp_path / "own").config.id2label == names
    again = SamForSemanticSegmentation.from_pretrained(tmp_path / "own", num_labels=3)
    assert again.config.id2label == names
    with pytest.raises(ValueError, match="num_labels says 4, id2label says 3"):
        SamForSemanticSegmentation.from_pretrained(tmp_path / "sam", id2label=names, num_labels=4)


# ---- other classes than those of a saved head ----


@pytest.mark.parametrize(
    ("saved", "asked", "words"),
    [
        ({}, {"num_classes": 5}, "num_classes 2, not 5, head binary, not mask-classification"),
        ({"num_classes": 5}, {"num_classes": 3}, "num_classes 5, not 3"),
        ({"num_classes": 5}, {"num_labels": 3}, "num_classes 5, not 3"),
        ({"num_classes": 5}, {"num_mask_tokens": 7}, "num_mask_tokens 5, not 7"),
        ({"num_classes": 5}, {"head": "per-pixel"}, "head mask-classification, not per-pixel"),
        ({}, {"detail": "half"}, "detail none, not half"),
        ({"detail": "half"}, {"detail": "none"}, "detail half, not none"),
    ],
)  # fmt: skip
def test_a_saved_head_is_not_used_for_what_it_was_not_made_for(saved, asked, words, pixels, tmp_path):
    before = segmenter(**saved)
    before.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=words):
        SamForSemanticSegmentation.from_pretrained(tmp_path, **asked)
    model = SamForSemanticSegmentation.from_pretrained(tmp_path, **asked, ignore_mismatched_sizes=True)
    classes = asked.get("num_classes", asked.get("num_labels", saved.get("num_classes", 2)))
    output = model(pixels, labels=torch.zeros(2, 64, 64, dtype=torch.long))
    assert output.logits.shape[1] == model.config.num_labels == classes
    assert (model.mask_decoder.detail is None) == (asked.get("detail", saved.get("detail", "none")) == "none")
    assert torch.equal(model.get_image_embeddings(pixels), before.get_image_embeddings(pixels))
    model.save_pretrained(tmp_path / "again")
    again = SamForSemanticSegmentation.from_pretrained(tmp_path / "again", **asked)
    assert torch.equal(again(pixels).logits, model(pixels).logits)


def test_a_new_head_keeps_the_branch_and_the_rest_of_the_decoder(tmp_path):
    model = segmenter(num_classes=4, detail="half")
    torch.nn.init.normal_(model.mask_decoder.detail.project.weight)
    model.save_pretrained(tmp_path)
    other = SamForSemanticSegmentation.from_pretrained(tmp_path, num_classes=3, ignore_mismatched_sizes=True)
    new = {"mask_tokens.weight", "classifier.weight", "classifier.bias", "detail.token_kernels"}
    kept = other.mask_decoder.state_dict()
    for name, value in model.mask_decoder.state_dict().items():
        assert name in new or torch.equal(kept[name], value), name


def test_a_binary_head_cannot_be_made_of_several_classes(tmp_path):
    segmenter(num_classes=3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="give the model it was made from"):
        SamForSemanticSegmentation.from_pretrained(tmp_path, num_classes=2, ignore_mismatched_sizes=True)


# ---- what transformers does with a model ----


@pytest.mark.parametrize(("network", "head"), CASES)
def test_a_plain_trainer_trains_and_predicts(network, head, tmp_path):
    model, classes = segmenter(network, **HEADS[head]), HEADS[head].get("num_classes", 2)
    items = [{"pixel_values": torch.randn(3, 64, 64), "labels": torch.randint(0, classes, (64, 64))} for _ in range(4)]
    seen = []

    def metrics(prediction):
        logits, labels = prediction
        seen.append((logits.shape[:2], labels.shape))
        return {"accuracy": float(logits.argmax(axis=1).mean())}

    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=1, per_device_train_batch_size=1, logging_steps=1,
        gradient_accumulation_steps=4, report_to="none", disable_tqdm=True, save_strategy="no", learning_rate=0.0,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=items, eval_dataset=items, compute_metrics=metrics)
    trainer.train()
    trainer.evaluate()
    assert seen == [((4, classes), (4, 64, 64))], "the logits come alone"
    mean = np.mean([model.train()(**{k: v[None] for k, v in one.items()}).loss.item() for one in items])
    logged = next(line["loss"] for line in trainer.state.log_history if "loss" in line)
    assert logged == pytest.approx(mean, rel=0.05), "four batches of one are divided by four"


def test_a_pipeline_names_the_classes():
    model = segmenter("unet", id2label={0: "ground", 1: "road"})
    processor = SegformerImageProcessorPil(size={"height": 64, "width": 64})
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90, 3), dtype=np.uint8))
    found = pipeline("image-segmentation", model=model, image_processor=processor)(image, subtask="semantic")
    assert {one["label"] for one in found} <= {"ground", "road"}
    assert all(one["mask"].size == (90, 50) for one in found)
