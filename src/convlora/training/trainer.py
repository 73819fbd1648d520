"""transformers' Trainer with Conv-LoRA's loss, streamed validation and checkpoints without pickle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import EpochSampler, SegmentationDataset
from convlora.data.readers import shield_readers
from convlora.data.reading.bands import channels_of
from convlora.data.sample import Sample
from convlora.errors import InputError, RunError
from convlora.inference.scoring import Baselines, new_baselines, new_scores, passes_over, score_samples
from convlora.inference.volume_scores import VolumeScores
from convlora.inference.windows import Tiles
from convlora.methods.conv_lora.balance import count_choices, expert_usage, layer_usage
from convlora.metrics import SLOW_SCORES, BinaryScores, MultiClassScores
from convlora.models.autocast import autocast
from convlora.reporting import Reporter
from convlora.training.callbacks import EpochOrder, OnTrainBegin
from convlora.training.choices import ChoiceAccount
from convlora.training.health import GIVE_UP_AFTER, Health, likely_cause
from convlora.training.passes import Passes
from convlora.training.rates import give_rates
from convlora.training.resumable import ResumableTrainer
from convlora.training.sharding import is_sharded, trained_weights, whole_number
from convlora.training.shares import shares_of
from convlora.training.steps import (
    LOSSES,
    PendingSteps,
    Step,
    StepAccount,
    reading_interval,
    skip_on_device,
    tell_by_gradients,
)


@torch.no_grad()
def _make_passes(model: Any, count: int, size: tuple[int, int], precision: str, channels: int = 3) -> None:
    """Forward passes over nothing."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    for _ in range(count):
        with autocast(device, precision):
            model(pixel_values=torch.zeros(1, channels, *size, device=device))
    model.train(was_training)


class SegmentationTrainer(ResumableTrainer):
    """Trains a segmenter.

    What it adds to transformers' Trainer: the load-balancing loss of Conv-LoRA layers; an order of images and
    augmentations that depends on the seed alone; validation at each image's own size without keeping logits; and
    checkpoints that hold no pickle and appear whole or not at all.

    Args:
        train_dataset: The training images.
        val_samples: The validation images; without any, the weights of the last epoch are kept.
        tiles: How images are cut to be scored; None: each is seen whole.
        classes: What the values in the masks mean.
        precision: `"fp32"`, `"bf16"` or `"fp16"`, for validation; training's is in the arguments.
        reporter: Receives the progress of validation.
        health: Looks for signs of trouble.
        passes: Calls the model.
        compile: `"auto"` records what validation does on a GPU, too; `"none"` does not.
        ema: Decay of the average of the trained weights, which is validated and kept; None or 0: there is none.
        patience: Training ends after so many validations in a row without a better score; None: it does not.
        rates: Learning rates of parts of the model, see `convlora.training.rates`.
        on_new_best: Called with the scores when a validation is the best so far, and with the trained weights if the
            model is spread over processes.
        on_checkpoint: Called when a checkpoint has been written, which knows what was the best so far.
        **kwargs: Arguments of transformers' Trainer.
    """

    read_every: int | None = None  # optimizer steps; by default as many as suit the device

    def __init__(
        self,
        *,
        train_dataset: SegmentationDataset,
        val_samples: list[Sample],
        tiles: Tiles | None = None,
        classes: ClassTable,
        precision: str,
        reporter: Reporter,
        health: Health,
        passes: Passes,
        compile: str,
        ema: float | None = None,
        patience: int | None = None,
        rates: Mapping[str, float] | None = None,
        on_new_best: Callable[[dict[str, float], dict[str, torch.Tensor] | None], None],
        on_checkpoint: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        self._sampler = EpochSampler(len(train_dataset), seed=train_dataset.seed, windows=train_dataset.windows)
        self.ema, self.patience, self.rates = ema, patience, rates or {}
        super().__init__(train_dataset=train_dataset, eval_dataset=train_dataset, **kwargs)
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if self.is_deepspeed_enabled or (plugin is not None and plugin.fsdp_version != 2):
            raise InputError(
                "Weights can be spread over processes by FSDP version 2 only: take docs/configs/fsdp.yaml, or leave "
                "DeepSpeed and FSDP out of the configuration of accelerate."
            )
        self.val_samples, self.classes, self.precision = val_samples, classes, precision
        self.tiles = tiles
        self.reporter, self.health, self.passes, self.compile = reporter, health, passes, compile
        self.on_new_best, self.on_checkpoint = on_new_best, on_checkpoint
        count_choices(self.model)
        self._choices = ChoiceAccount()
        self.history: list[dict[str, Any]] = []
        self.account = StepAccount()
        every = reading_interval(self.args.device) if self.read_every is None else self.read_every
        self._pending = PendingSteps(every, self._mean_over_processes)
        self._step_sums: list[Any] = [0.0, 0.0]  # losses of this optimizer step, on the device
        self._step_passes = 0
        self.add_callback(EpochOrder(self._sampler))
        self.add_callback(OnTrainBegin(self.take_over))

    # ---- data ----

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return self._sampler

    def get_train_dataloader(self) -> Any:
        """The Trainer's, with readers as in `convlora.data.readers`."""
        loader: Any = super().get_train_dataloader()
        shield_readers(getattr(loader, "base_dataloader", loader))  # accelerate wraps it
        return loader

    # ---- steps ----

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's, with the rates of parts."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if is_new:
            give_rates(optimizer, self.model if model is None else model, self.rates)
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The task's loss plus the load-balancing loss of the same forward pass."""
        # Given the labels, the model would check them, and so wait for the device. The reader has checked them.
        dataset: Any = self.train_dataset
        inputs = dataset.model_inputs(inputs)  # which are on the device, as the readers handed them over
        outputs, balance = self.passes(model, inputs["pixel_values"])
        task_loss = self.model.base_model.model.loss_of(outputs, inputs["labels"])
        balance = balance.to(task_loss.device)
        for place, value in enumerate((task_loss, balance)):
            self._step_sums[place] = self._step_sums[place] + value.detach().float()
        self._step_passes += 1
        loss = task_loss + balance
        if self.precision == "fp16":
            loss = tell_by_gradients(loss)
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm of the gradients before clipping; of a step that is not finite, nothing will come.

        Both are decided on the device; the host is told later, in `_look_at`.
        """
        norm = whole_number(super()._get_grad_norm(model, grad_norm))
        sums = torch.stack([torch.as_tensor(total) for total in self._step_sums])
        values = torch.cat([norm.reshape(1).to(sums), sums])
        # With fp16 the scaler watches the gradients, which overflow now and then.
        watched = sums if self.precision == "fp16" else values
        skip = (~watched.isfinite().all()).to(sums.dtype)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(skip, torch.distributed.ReduceOp.MAX)
        # The scaler tells the optimizer by itself.
        if self.precision != "fp16" and not skip_on_device(self.optimizer, skip) and bool(skip):
            for parameter in model.parameters():
                parameter.grad = None  # an optimizer leaves weights without a gradient as they are
        step = Step(self.state.global_step + 1, self._step_passes, torch.cat([skip.reshape(1), values]))
        usage = layer_usage(self.model)
        if usage is not None:
            step.values, step.experts = torch.cat([step.values, usage.flatten().to(values)]), usage.shape[1]
        self._pending.append(step)
        self._step_sums, self._step_passes = [0.0, 0.0], 0
        self._tr_loss.zero_()  # nan would stay in it; what it is for is added up in `_look_at`
        return norm

    def _maybe_log_save_evaluate(self, *args: Any, learning_rate: float | None = None, **kwargs: Any) -> None:
        """The Trainer's, which would wait for the loss of each step that is logged."""
        if self.control.should_log and self.state.global_step > self._globalstep_last_logged:
            rate = self.lr_scheduler.get_last_lr()[0] if learning_rate is None else learning_rate
            self._pending.add_line(self.state.epoch or 0.0, {"learning_rate": self._base_rate(rate)})
            self._globalstep_last_logged: int = self.state.global_step
        ends = self.control.should_training_stop or self.control.should_epoch_stop
        now = self.control.should_evaluate or self.control.should_save or ends
        for step, (skipped, norm, *rest) in self._pending.take(now):
            losses, counts = rest[: len(LOSSES)], rest[len(LOSSES) :]
            if counts and step.line is not None:
                step.line |= self._choices.line(torch.tensor(counts).view(-1, step.experts))
            self._look_at(step, bool(skipped), norm, losses)
        if now:
            self.store_flos()
        super()._maybe_log_save_evaluate(*args, learning_rate=learning_rate, **kwargs)

    def _base_rate(self, rate: float) -> float:
        """The base rate that goes with that of the first weights, where all that are trained may have another."""
        first = self.lr_scheduler.base_lrs[0]
        return rate if first == self.args.learning_rate else rate / first * self.args.learning_rate

    def _mean_over_processes(self, table: torch.Tensor) -> torch.Tensor:
        """The losses of steps averaged over processes, which agree on the rest, `(steps, n)`."""
        if self.args.world_size == 1:
            return table
        return torch.cat([table[:, :2], self.accelerator.reduce(table[:, 2:], "mean")], dim=1)

    def _look_at(self, step: Step, skipped: bool, norm: float, losses: list[float]) -> None:
        """Says what is to be said about a step that was made."""
        if skipped:
            self.account.skip()
            if self.account.skipped_in_a_row >= GIVE_UP_AFTER:
                self._give_up(step.number)
            if self.account.skipped_steps == 1:
                self.reporter.message(
                    f"Warning: The loss of step {step.number} is not a finite number; the step is skipped."
                )
        else:
            self.account.add(norm, losses, step.passes)
            self._total_loss_scalar: float = self._total_loss_scalar + sum(losses) / step.passes
            self.health.look_at_norm(norm, step.number)
        if step.line is not None:
            means = self.account.end_line()
            now = self.state.global_step, self.state.epoch
            self.state.global_step, self.state.epoch = step.number, step.epoch  # loggers ask the state
            try:
                self.log({"loss": means.pop("loss"), "grad_norm": norm, **step.line, **means})
            finally:
                self.state.global_step, self.state.epoch = now

    def _give_up(self, step: int) -> None:
        kept = f"the last good weights are kept in {Path(self.args.output_dir).parent / 'adapter'}"
        if not self.history:  # no epoch is finished, so the weights before the trouble are all there is
            if self._answers_with_numbers():
                self._keep_best({})
                if self.is_world_process_zero():
                    self.on_checkpoint()  # there will be none
            else:
                kept = "no weights are kept, because the last finite step had spoiled them"
        raise RunError(
            f"The loss was not a finite number in {GIVE_UP_AFTER} steps in a row, up to step {step}, so training "
            f"stops; {kept}. {likely_cause(self.precision, self.account.last_norm)}"
        )

    def _answers_with_numbers(self) -> bool:
        """Whether the weights, as they are, make something of the first validation image, or training image."""
        dataset: Any = self.train_dataset
        try:
            with self.averaged():
                score_samples(
                    self.model,
                    (self.val_samples or dataset.samples)[:1],
                    self.classes,
                    image_size=dataset.image_size,
                    precision=self.precision,
                    intensity=dataset.intensity,
                    tiles=self.tiles,
                    structure=False,
                )
        except RunError:
            return False
        return True

    # ---- validation ----

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Scores the validation images, each process its share, and merges the scores."""
        if not self.val_samples:
            self._end_epoch_of_gate(self._epoch())
            self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
            return {}
        needs_structure = self.args.metric_for_best_model in SLOW_SCORES
        self.reporter.validate_begin(len(self.val_samples), "validation")
        with self.averaged():
            scores = self.score(self.val_samples, structure=needs_structure)
        values = scores.compute()
        epoch = self._epoch()
        self.health.look_at_answers(scores, epoch)
        self._end_epoch_of_gate(epoch)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in values.items() if name != "per_class"}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _end_epoch_of_gate(self, epoch: int) -> None:
        self.health.look_at_gate(expert_usage(self.model), epoch)
        count_choices(self.model)
        self._choices.restart()

    def score(
        self,
        samples: list[Sample],
        *,
        structure: bool,
        trivial: Baselines | None = None,
        images: list[dict[str, Any]] | None = None,
        volumes: VolumeScores | None = None,
        model: Any = None,
    ) -> BinaryScores | MultiClassScores:
        """Scores samples, spread over the processes; each gets the scores of all.

        Args:
            samples: What to score.
            model: What to score them with, if not with the model that is trained.
            structure: Whether to compute the slow scores too, see `convlora.metrics.SLOW_SCORES`.
            trivial: Collects the scores of trivial answers along the way.
            images: Receives what each image adds to the scores, in the order of the samples.
            volumes: Receives the scores of whole volumes.
        """
        own_images: list[dict[str, Any]] = []
        own_trivial = new_baselines(self.classes)
        dataset: Any = self.train_dataset
        model = self.model if model is None else model
        shares = shares_of(samples, self.args.world_size)
        own_volumes = None if volumes is None else VolumeScores(self.classes)
        own = score_samples(
            model,
            shares[self.args.process_index],
            self.classes,
            image_size=dataset.image_size,
            batch_size=self.args.per_device_eval_batch_size,
            precision=self.precision,
            intensity=dataset.intensity,
            tiles=self.tiles,
            workers=self.args.dataloader_num_workers,
            compile=self.compile,
            structure=structure,
            trivial=own_trivial,
            images=own_images,
            volumes=own_volumes,
            progress=self.reporter.validate_step,
        )
        if is_sharded(model):
            # Every pass brings the weights of all processes together, so all must make as many.
            passes = self._passes(shares)
            own_passes = max(passes) - passes[self.args.process_index]
            channels = channels_of(dataset.intensity)
            _make_passes(model, own_passes, dataset.image_size, self.precision, channels)
        merged = new_scores(self.classes, structure)
        for state in gather_object([own.state_dict()]):
            merged.merge(state)
        if trivial is not None:
            for state in gather_object([own_trivial.state_dict()]):
                trivial.merge(state)
        if volumes is not None and own_volumes is not None:
            for each in gather_object([own_volumes.state_dict()]):
                volumes.merge(each)
        if images is not None:
            places = {sample.name: place for place, sample in enumerate(samples)}
            everywhere = [one for part in gather_object([own_images]) for one in part]
            images.extend(sorted(everywhere, key=lambda one: places[one["image"]]))
        return merged

    def _passes(self, shares: Sequence[list[Sample]]) -> list[int]:
        """How many forward passes each process makes over its share of samples."""
        dataset = cast("SegmentationDataset", self.train_dataset)
        how = self.tiles, dataset.image_size, self.args.per_device_eval_batch_size, dataset.intensity
        return [passes_over(own, *how) for own in shares]

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best = not self.val_samples or super()._determine_best_metric(metrics, trial)
        scores = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        epoch = self._epoch()
        self.history = [entry for entry in self.history if entry["step"] < self.state.global_step]
        self.history.append({"epoch": epoch, "step": self.state.global_step, **scores})
        if is_best:
            self._keep_best(scores)
        if self.is_world_process_zero() and self.val_samples:
            self.reporter.validate_end(epoch, scores, self.args.metric_for_best_model, is_best)
        reason = self.why_stopped_early()
        if reason is not None:
            self.control.should_training_stop = True
            self.reporter.message(f"Training stops early: {reason}.")
        return is_best

    def _keep_best(self, scores: dict[str, float]) -> None:
        with self.averaged():
            weights = trained_weights(self.model) if is_sharded(self.model) else None
            if self.is_world_process_zero():
                self.on_new_best(scores, weights)

    def _epoch(self) -> int:
        """Epochs begun; they count from 1, and the last may be cut short."""
        return math.ceil((self.state.epoch or 0.0) - 1e-6)
