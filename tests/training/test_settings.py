"""Every setting arrives where it acts."""

import pytest
import torch

from convlora.data.checking.check import check_data
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from convlora.inference.scoring import score_samples
from convlora.methods.conv_lora import layer as conv_lora_layer
from convlora.training import fit as fit_module
from convlora.training.arguments import trainer_arguments
from convlora.training.config import RunConfig
from convlora.training.model import build_model
from convlora.training.run import train
from convlora.training.trainer import SegmentationTrainer
from convlora.training.validation import check_settings


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("lr=0.5", "learning_rate", 0.5),
        ("weight_decay=0.25", "weight_decay", 0.25),
        ("max_grad_norm=3", "max_grad_norm", 3.0),
        ("batch_size=7", "per_device_train_batch_size", 7),
        ("batch_size=7", "per_device_eval_batch_size", 7),
        ("grad_accum=5", "gradient_accumulation_steps", 5),
        ("precision=bf16", "bf16", True),
        ("precision=fp32", "bf16", False),
        ("activation_checkpointing=true", "activation_checkpointing", True),
        ("select_by=mae", "metric_for_best_model", "mae"),
        ("select_by=mae", "greater_is_better", False),
        ("logging_steps=9", "logging_steps", 9),
        ("seed=11", "seed", 11),
        ("warmup_steps=3", "warmup_steps", 3),
        ("workers=3", "dataloader_num_workers", 3),
    ],
)
def test_trainer_arguments(assignment, name, value, tmp_path):
    config = RunConfig()
    config.override(["precision=fp32", "epochs=20", assignment])
    assert getattr(trainer_arguments(config, tmp_path, torch.device("cpu"), 4), name) == value


def test_the_schedule_and_what_is_off(tmp_path):
    config = RunConfig()
    config.override(["epochs=20", "warmup_steps=0"])
    arguments = trainer_arguments(config, tmp_path, torch.device("cpu"), 4)
    assert (arguments.lr_scheduler_type, arguments.warmup_steps) == ("polynomial", 0)
    assert arguments.lr_scheduler_kwargs == {"lr_end": 0.0, "power": 1.0}
    assert arguments.ddp_find_unused_parameters is False
    assert arguments.activation_checkpointing_kwargs == {"use_reentrant": False}


def test_the_model_gets_its_settings(make_config, blobs):
    classes = check_data(open_data(blobs), full=False).classes
    config = make_config(loss="bce-dice")
    config.override(["attention=vectors", "image_size=48", "r=2", "num_experts=3", "gate_scaling=softmax"])
    check_settings(config)
    model = build_model(config, classes)
    base = model.base_model.model
    assert base.config.loss == "bce-dice"
    assert base.config.image_size == [48, 48]
    assert base.vision_encoder.layers[0].attn.form == "vectors"
    qkv = base.vision_encoder.layers[0].attn.qkv
    assert qkv.lora_experts["default"].weight.shape == (3, 2, 2, 3, 3)
    assert qkv.conv_lora_settings["default"].gate_scaling == "softmax"


@pytest.fixture
def datasets(monkeypatch):
    """The training data sets that runs make."""
    made = []
    original = fit_module.SegmentationDataset

    def record(*args, **kwargs):
        made.append(original(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(fit_module, "SegmentationDataset", record)
    return made


def test_the_data_get_their_settings(make_config, tmp_path, datasets):
    config = make_config(max_steps=1, seed=4)
    config.override(["augmentation=strong", "intensity=image"])
    train(config, tmp_path / "run")
    (dataset,) = datasets
    assert (dataset.augmentation.name, dataset.intensity, dataset.seed) == ("strong", "image", 4)


@pytest.mark.parametrize(("checkpointing", "passes"), [(False, 2), (True, 4)])
def test_checkpointing_runs_each_layer_twice(make_config, tmp_path, monkeypatch, checkpointing, passes):
    calls = []
    original = conv_lora_layer.noisy_top_k

    def count(*args, **kwargs):
        if kwargs["noisy"]:
            calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(conv_lora_layer, "noisy_top_k", count)
    train(make_config(max_steps=1, activation_checkpointing=checkpointing), tmp_path / "run")
    assert len(calls) == passes


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_in_training_and_in_scoring(make_config, tmp_path, monkeypatch, precision, dtype, blobs):
    seen = {"train": set(), "score": set()}

    def watch(trainer, key):
        layer = trainer.model.base_model.model.vision_encoder.layers[0].mlp.lin1
        return layer.register_forward_hook(lambda module, args, out: seen[key].add(out.dtype))

    original = SegmentationTrainer.training_step

    def step(self, *args, **kwargs):
        handle = watch(self, "train")
        try:
            return original(self, *args, **kwargs)
        finally:
            handle.remove()

    original_score = SegmentationTrainer.score

    def score(self, *args, **kwargs):
        handle = watch(self, "score")
        try:
            return original_score(self, *args, **kwargs)
        finally:
            handle.remove()

    monkeypatch.setattr(SegmentationTrainer, "training_step", step)
    monkeypatch.setattr(SegmentationTrainer, "score", score)
    train(make_config(max_steps=1, precision=precision), tmp_path / "run")
    assert seen == {"train": {dtype}, "score": {dtype}}


def test_scoring_reads_intensities_as_told(make_config, tmp_path, trained_run):
    """A dark 12-bit image is not what it is when stretched to its own range."""
    import numpy as np
    from PIL import Image

    from convlora import Segmenter

    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "d" / part).mkdir(parents=True)
    values = rng.integers(0, 4096, (40, 40)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "d" / "images" / "a.png")
    Image.fromarray((values > 2000).astype(np.uint8)).save(tmp_path / "d" / "masks" / "a.png")
    segmenter = Segmenter.from_run(trained_run, device="cpu")
    source = open_data(tmp_path / "d")
    classes = check_data(source, full=False).classes
    means = [
        score_samples(
            segmenter.model, source.split("test"), classes, image_size=(64, 64), intensity=intensity
        ).compute()
        for intensity in ("type", "image")
    ]
    assert means[0]["mae"] != means[1]["mae"]


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("method.r=abc", "method.r must be like its default, 3, got 'abc'"),
        ("method.r=2.5", "method.r must be like its default"),
        ("method.gate_noise=5", "method.gate_noise must be like its default"),
        ("image_size=[64]", "model.image_size must be"),
        ("seed=5000000000", "--seed must be"),
        ("report_to=foo", "the logger 'foo' is not known or not installed"),
    ],
)
def test_values_that_cannot_work_are_named(assignment, words):
    def read_and_check():
        config = RunConfig()
        config.override([assignment])
        check_settings(config)

    with pytest.raises(InputError, match=words.replace("[", r"\[")):
        read_and_check()


def test_a_decoder_that_is_to_be_new_is_not_adapted():
    config = RunConfig()
    config.override(["method=lora-decoder", "decoder=eomt"])
    with pytest.raises(InputError, match=r"adapts a pretrained mask decoder.* Take the method lora"):
        check_settings(config)


def test_another_method_drops_the_options_of_the_first():
    config = RunConfig()
    config.override(["num_experts=4", "method=lora", "r=8"])
    check_settings(config)
    assert config.method.options == {"r": 8, "lora_alpha": 32, "lora_dropout": 0.0}
    config.update({"method": {"r": 5, "name": "conv-lora"}}, origin="a file")
    assert config.method.options == {"r": 5}
    with pytest.raises(InputError, match=r"Did you mean 'method\.num_experts'"):
        config.override(["num_expert=4"])


def test_adapt_last_leaves_the_blocks_below_without_a_graph(make_config, blobs):
    classes = check_data(open_data(blobs), full=False).classes
    config = make_config(adapt_last=1, activation_checkpointing=True)
    check_settings(config)
    model = build_model(config, classes).train()
    encoder = model.base_model.model.vision_encoder
    adapted = {int(name.split("layers.")[1].split(".")[0]) for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == {1}
    needs_graph = []
    for block in encoder.layers:
        block.register_forward_hook(lambda module, args, out: needs_graph.append(out.requires_grad))
    model.base_model.model.activation_checkpointing_enable()
    model(pixel_values=torch.randn(1, 3, 64, 64), labels=torch.zeros(1, 64, 64, dtype=torch.long)).loss.backward()
    assert needs_graph[:2] == [False, True]
    config.training.adapt_last = 3
    with pytest.raises(InputError, match="more than the 2 blocks"):
        build_model(config, classes)


def test_a_run_with_adapt_last_is_loaded_again(make_config, tmp_path):
    from convlora import Segmenter

    train(make_config(max_steps=1, adapt_last=1), tmp_path / "run")
    model = Segmenter.from_run(tmp_path / "run", device="cpu").model
    assert not hasattr(model.base_model.model.vision_encoder.layers[0].attn.qkv, "lora_A")
    assert hasattr(model.base_model.model.vision_encoder.layers[1].attn.qkv, "lora_A")
