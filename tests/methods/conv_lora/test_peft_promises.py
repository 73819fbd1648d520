"""What PEFT promises and Conv-LoRA cannot keep is refused before anything is changed; the rest is kept."""

import copy
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from peft.utils.hotswap import prepare_model_for_compiled_hotswap
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Trainer, TrainingArguments

from convlora.methods.conv_lora import ConvLoraConfig, load_balancing_loss
from convlora.methods.feature_tuning import FeatureTuningConfig
from tests.helpers.models import TwoLinears

TARGETS = ["first", "second"]


def config(**kwargs):
    return ConvLoraConfig(**({"target_modules": TARGETS, "init_lora_weights": False} | kwargs))


@pytest.fixture
def x():
    return torch.randn(2, 5, 7, 12)


# ---- what cannot be ----


def test_it_is_not_converted_to_lora_on_saving(tmp_path):
    model = get_peft_model(TwoLinears(), config())
    model.save_pretrained(tmp_path / "initial")
    with pytest.raises(ValueError, match="path_initial_model_for_weight_conversion"):
        model.save_pretrained(tmp_path / "new", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    assert not list(tmp_path.glob("new/*.safetensors"))
    assert len(load_file(tmp_path / "initial" / "adapter_model.safetensors")) == 12


def test_it_has_no_delta_weight():
    layer = get_peft_model(TwoLinears(), config()).base_model.model.first
    with pytest.raises(ValueError, match="no delta weight"):
        layer.get_delta_weight("default")


@pytest.mark.parametrize("rank", [None, 8])
def test_it_is_not_prepared_for_hot_swapping_and_works_on(rank, x):
    model = get_peft_model(TwoLinears(), config()).eval()
    expected = model(x)
    with pytest.raises(ValueError, match="hot-swapping"):
        prepare_model_for_compiled_hotswap(model, target_rank=rank)
    assert torch.equal(model(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)


@pytest.mark.parametrize("shape", [(2, 15, 12), (2, 12), (2, 2, 2, 2, 12)])
def test_a_shape_that_does_not_fit_is_told_with_the_name_of_the_layer(shape):
    model = get_peft_model(nn.Sequential(nn.Linear(12, 12), TwoLinears()), config())
    with pytest.raises(ValueError, match=r"the layer '1\.first'"):
        model(torch.randn(shape))


# ---- evaluation mode ----


@pytest.mark.parametrize("start", ["get", "inject", "add", "load"])
def test_a_model_in_evaluation_mode_stays_there(start, x, tmp_path):
    base = TwoLinears().eval()
    settings = config(lora_dropout=0.5)
    if start == "inject":
        model = inject_adapter_in_model(settings, base)
    elif start == "load":
        get_peft_model(copy.deepcopy(base), settings).save_pretrained(tmp_path)
        model = PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    else:
        model = get_peft_model(base, settings)
    if start == "add":
        model.add_adapter("other", config(lora_dropout=0.5))
        model.set_adapter("other")
    assert torch.equal(model(x), model(x)), "no noise, no dropout"
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("is_training", [True, False])
def test_other_methods_keep_the_mode_too(is_training):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).train(is_training)
    settings = FeatureTuningConfig(kind="bottleneck", target_modules=["0"])
    model = get_peft_model(model, settings)
    model.add_adapter("other", settings)
    assert {module.training for module in model.base_model.model.modules()} == {is_training}


# ---- the second loss ----


class WithLoss(TwoLinears):
    def forward(self, x, labels=None):
        out = super().forward(x).mean(dim=(1, 2))
        return {"loss": nn.functional.cross_entropy(out, labels), "logits": out}


def train_plainly(model, folder):
    items = [{"x": torch.randn(5, 7, 12), "labels": torch.tensor(i % 2)} for i in range(4)]
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"), use_cpu=True, max_steps=3, learning_rate=1e-2, report_to="none",
        disable_tqdm=True, save_strategy="no", remove_unused_columns=False,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=items).train()


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({}, "load_balancing_loss"),
        ({"gate_noise": False}, "gate_noise=False and gate_scaling='none'"),
        ({"load_balancing_weight": 0.0}, "load_balancing_weight=0 and gate_scaling='none'"),
    ],
)
def test_a_gate_that_a_plain_trainer_left_at_zero_is_told_of_on_saving(settings, remedy, tmp_path):
    model = get_peft_model(WithLoss(), config(init_lora_weights=True, **settings))
    train_plainly(model, tmp_path)
    with pytest.warns(UserWarning, match=f"gate of this Conv-LoRA adapter is still at zero.*{remedy}"):
        model.save_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize("case", ["fresh", "balanced", "softmax", "average", "one expert", "depthwise", "lora"])
def test_no_other_adapter_is_told_of(case, x, tmp_path):
    settings = {
        "softmax": {"gate_scaling": "softmax"},
        "average": {"gate_scaling": "average"},
        "one expert": {"num_experts": 1},
        "depthwise": {"convolution": "depthwise"},
    }
    chosen = config(init_lora_weights=True, **settings.get(case, {}))
    model = get_peft_model(TwoLinears(), LoraConfig(target_modules=TARGETS) if case == "lora" else chosen).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(0 if case == "fresh" else 3):
        loss = model(x).square().mean() + (load_balancing_loss(model) if case == "balanced" else 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path)
        get_peft_model_state_dict(model)


class Checkpointed(TwoLinears):
    use_reentrant = True

    def forward(self, x):
        hidden = checkpoint(self.first, x, use_reentrant=self.use_reentrant)
        return self.head(checkpoint(self.second, torch.tanh(hidden), use_reentrant=self.use_reentrant))


@pytest.mark.parametrize("settings", [{}, {"load_balancing_weight": 0.0}])
def test_reentrant_checkpointing_does_not_drop_the_loss_in_silence(settings, x):
    model = get_peft_model(Checkpointed(), config(**settings)).train()
    x.requires_grad_()
    loss = model(x).square().mean() + load_balancing_loss(model)
    if settings:
        loss.backward()  # there is nothing to drop
    else:
        with pytest.raises(RuntimeError, match="use_reentrant"):
            loss.backward()


def test_a_pass_without_gradients_in_between_is_no_reentrant_checkpointing(x):
    model = get_peft_model(Checkpointed(), config()).train()
    model.base_model.model.use_reentrant = False
    loss = model(x).square().mean() + load_balancing_loss(model)
    with torch.no_grad():
        model(x)
    loss.backward()


# ---- compiling ----


def test_a_step_with_its_loss_is_compiled_in_one_piece(x):
    torch._dynamo.reset()
    model, found = get_peft_model(TwoLinears(), config()).train(), []

    def step(x):
        return model(x).square().mean() + load_balancing_loss(model)

    for form in (step, torch.compile(step, backend="aot_eager", fullgraph=True)):
        for _ in range(2):
            torch.manual_seed(0)
            model.zero_grad()
            loss = form(x)
            loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


# ---- the card ----


@pytest.mark.parametrize("settings", [config(), FeatureTuningConfig(target_modules=TARGETS)], ids=["conv", "bias"])
@pytest.mark.parametrize("name", ["default", "mine"])
def test_the_card_says_how_to_load(settings, name, tmp_path):
    model = get_peft_model(TwoLinears(), settings, adapter_name=name)
    for _ in range(2):  # once is enough
        model.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.count("import convlora") == 1
    assert text.index("How to Get Started") < text.index("import convlora") < text.index("## Training Details")
    (tmp_path / "README.md").write_text("---\nlibrary_name: peft\n---\n# Mine\n")
    model.save_pretrained(tmp_path)
    assert "# Mine" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "README.md").read_text().count("import convlora") == 1


def test_what_the_card_says_works(x, tmp_path):
    saved = get_peft_model(TwoLinears().eval(), config())
    saved.save_pretrained(tmp_path)
    code = (tmp_path / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names = {"base_model": saved.unload()}
    exec(code.replace("FOLDER OR REPOSITORY OF THIS ADAPTER", str(tmp_path)), names)  # noqa: S102 - the card is ours
    assert isinstance(names["model"], PeftModel)
