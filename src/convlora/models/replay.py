"""Recording what a model does once and replaying it, so that a GPU does not wait for Python.

A step of a vision transformer with adapters is thousands of short operations. Starting them one by one takes longer
than computing them, unless the batch is large. CUDA can record them once, in a graph, and start the whole recording
with a single call. A recording is tied to the places of its tensors in memory: inputs are copied to where they were,
and results appear where they were. So a recording is made for one shape of the input, and is given up when a parameter
moves.

Forward and backward pass are recorded apart, so that the loss between them stays ordinary code. Gradients are recorded
as plain results and then added to `.grad` here. The accumulation of autograd is not recorded: it would keep the
recording's own memory as the gradient, and the next replay would overwrite what was accumulated.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import nn

from convlora.methods.conv_lora.balance import load_balancing_loss, preserve_choices
from convlora.methods.conv_lora.resampling import tables_in_use

Work = Callable[[], list[torch.Tensor]]

_TOLERANCE = 0.05  # root mean square of a difference, relative: rounding is all there should be
_COMPARISONS = 3


class CannotRecordError(Exception):
    """A model cannot be recorded; the message says why, for the user."""


class Recording(Protocol):
    """Recorded work."""

    results: list[torch.Tensor]

    def replay(self) -> None:
        """Does the work again; the results are where they were."""


class Recorder(Protocol):
    """Makes recordings."""

    def warm_up(self) -> AbstractContextManager[Any]:
        """Where work is to be done once before it is recorded."""

    def record(self, work: Work) -> Recording:
        """Records work, which may or may not be done now."""


class _Graph:
    """Work recorded in a CUDA graph."""

    def __init__(self, work: Work, pool: Any) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on: readers pin memory while this records.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self.results = work()

    def replay(self) -> None:
        self._graph.replay()


class CudaRecorder:
    """Records CUDA graphs that share their memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Another stream, as recording asks for.

        Raises:
            CannotRecordError: If the work took more than half of the free memory. What a recording takes is not shared
                with work that is not recorded, such as a last batch of another size.
        """
        stream, before = torch.cuda.Stream(), torch.cuda.memory_allocated()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream().wait_stream(stream)
        needed = torch.cuda.max_memory_allocated() - before
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        if 2 * needed > free:
            raise CannotRecordError(f"it would take {needed / 2**30:.1f} GiB more")

    def record(self, work: Work) -> Recording:
        """Records a graph."""
        return _Graph(work, self._pool)


class _Repeated:
    def __init__(self, work: Work) -> None:
        self._work = work
        self.results = work()

    def replay(self) -> None:
        with torch.enable_grad():  # as it was recorded
            values = self._work()
        for place, value in zip(self.results, values):
            place.detach().copy_(value.detach())


class Repeater:
    """Stands in for CUDA graphs on a CPU: the work is done again, and its results are copied to where they were.

    It saves no time. It lets tests see on any machine what depends on fixed places in memory.
    """

    def warm_up(self) -> AbstractContextManager[Any]:
        """Nothing to do."""
        return nullcontext()

    def record(self, work: Work) -> Recording:
        """Keeps the work."""
        return _Repeated(work)


def _place_of(model: nn.Module) -> tuple[Any, ...]:
    """What a recording depends on beside its input: where the parameters are, and which adapters are used."""
    layer: Any = next((m for m in model.modules() if hasattr(m, "disable_adapters")), None)
    adapters: Any = getattr(model, "active_adapters", ())
    return (
        model.training,
        tuple(adapters),
        layer is not None and layer.disable_adapters,
        tuple(parameter.data_ptr() for parameter in model.parameters()),
        tuple(parameter.requires_grad for parameter in model.parameters()),
    )


def _random_state(device: torch.device) -> Callable[[], None]:
    """Notes the state of the random numbers of a device; what it returns restores it."""
    if device.type == "cuda":
        state = torch.cuda.get_rng_state(device)
        return lambda: torch.cuda.set_rng_state(state, device)
    state = torch.get_rng_state()
    return lambda: torch.set_rng_state(state)


class ReplayedForward:
    """A model's answers to one shape of input, by replaying a recording.

    Args:
        model: A segmenter in evaluation mode, with or without adapters.
        example: Input `(B, 3, H, W)` of the shape to record.
        recorder: Makes the recording.
        context: What to call the model in, such as autocast.

    Raises:
        CannotRecordError: If the model cannot be recorded.
    """

    def __init__(
        self,
        model: nn.Module,
        example: torch.Tensor,
        recorder: Recorder,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._input = example.clone()
        self._kind: Any = None

        def work() -> list[torch.Tensor]:
            with torch.no_grad(), context():
                output = model(pixel_values=self._input)
            self._kind, self._names = type(output), list(output.keys())
            return list(output.values())

        with _recording_errors():
            with recorder.warm_up():
                work()
            self._recording = recorder.record(work)
        self._tables = tables_in_use()  # the recording reads them
        self._place = _place_of(model)

    def fits(self, model: nn.Module, pixel_values: torch.Tensor) -> bool:
        """Whether the recording can answer for an input."""
        return _alike(self._input, pixel_values) and self._place == _place_of(model)

    def __call__(self, pixel_values: torch.Tensor) -> Any:
        """The model's output for `pixel_values`; it stays valid when the next one is asked for."""
        self._input.copy_(pixel_values)
        self._recording.replay()
        return self._kind(**{name: value.clone() for name, value in zip(self._names, self._recording.results)})


class ReplayedTraining:
    """A model's forward and backward pass for one shape of input, by replaying two recordings.

    Calling it gives the model's output and its load-balancing loss. A loss made of these can be propagated back as
    usual: `.grad` of the model's trained parameters then has its gradients added.

    Args:
        model: A segmenter in training mode, with or without adapters.
        example: Input `(B, 3, H, W)` of the shape to record.
        recorder: Makes the recordings.
        context: What to call the model in, such as autocast.

    Raises:
        CannotRecordError: If the model cannot be recorded, or a replay does not give what the model gives.
    """

    def __init__(
        self,
        model: nn.Module,
        example: torch.Tensor,
        recorder: Recorder,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._model, self._context = model, context
        self._input = example.clone()
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._anchor = torch.zeros((), device=example.device, requires_grad=True)
        self._live: list[torch.Tensor] = []  # what the graph of the last forward pass hangs on
        restore = _random_state(example.device)
        try:
            with _recording_errors(), preserve_choices(model):
                with recorder.warm_up():
                    self._output_grads = [torch.randn_like(value) for value in self._forward()]
                    self._live = []
                    restore()
                    expected = self._ordinary()
                restore()
                self._recorded_forward = recorder.record(self._forward)
                self._recorded_backward = recorder.record(self._backward)
                self._live = []  # recorded, and not needed any more
                self._verify(expected, restore)
        finally:
            restore()  # a run that cannot be recorded is the same as one that is not to be
        # Laid out as the parameters are, which the gradients of some convolutions are not: fused optimizers rely on it.
        self._grads = [torch.zeros_like(parameter) for parameter in self._with_grad]
        self._tables = tables_in_use()  # the recordings read them
        self._place = _place_of(model)

    def _ordinary(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What the model itself gives: results and gradients."""
        results = [value.detach().clone() for value in self._forward()]
        grads = [grad.clone() for grad in self._backward()]
        self._live = []  # a graph that lives on ties the parameters to the stream of this pass
        return results, grads

    def _verify(self, expected: tuple[list[torch.Tensor], list[torch.Tensor]], restore: Callable[[], None]) -> None:
        """Compares replays with what the model gives, because a recording that went wrong would be silent.

        Recorded work may be rounded otherwise: it has workspaces of its own. Where an expert is chosen by a narrow
        margin, that changes the choice, and with it a few gradients. So the work is compared several times, with other
        random numbers, and only what differs every time is wrong.

        Args:
            expected: What the model gave with the random numbers that `restore` brings back.
            restore: Brings them back.

        Raises:
            CannotRecordError: If something differs.
        """
        wrong = None
        for comparison in range(_COMPARISONS):
            if comparison > 0:
                torch.rand((), device=self._input.device)
                restore = _random_state(self._input.device)
                expected = self._ordinary()
            restore()
            self._recorded_forward.replay()
            self._recorded_backward.replay()
            now = torch.cat(
                [
                    _differ(self._recorded_forward.results, expected[0]),
                    # Some gradients are zero in theory, such as those of the biases of keys, and rounding in practice.
                    _differ(self._recorded_backward.results, expected[1], typical_size(expected[1])),
                ]
            )
            wrong = now if wrong is None else wrong & now
            if not bool(wrong.any()):
                return
        raise CannotRecordError("a replay does not give what the model gives")

    def _forward(self) -> list[torch.Tensor]:
        with self._context():
            output = self._model(pixel_values=self._input)
        self._kind, self._names = type(output), list(output.keys())
        balance = load_balancing_loss(self._model)
        self._live = [*output.values(), balance]
        return self._live

    def _backward(self) -> list[torch.Tensor]:
        roots = [(value, grad) for value, grad in zip(self._live, self._output_grads) if value.requires_grad]
        values, grads = zip(*roots)
        found = torch.autograd.grad(values, self._trained, grads, allow_unused=True)
        self._with_grad = [p for p, grad in zip(self._trained, found) if grad is not None]
        return [grad for grad in found if grad is not None]

    def fits(self, model: nn.Module, pixel_values: torch.Tensor) -> bool:
        """Whether the recordings can be used for an input."""
        return _alike(self._input, pixel_values) and self._place == _place_of(model)

    def __call__(self, pixel_values: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Output and load-balancing loss for `pixel_values`, valid until the next call."""
        self._input.copy_(pixel_values)
        *values, balance = _Replay.apply(self, self._anchor)
        return self._kind(**dict(zip(self._names, values))), balance

    def add_gradients(self) -> None:
        """Adds what the last replay of the backward pass found to `.grad`."""
        found = self._recorded_backward.results
        if all(parameter.grad is None for parameter in self._with_grad):
            torch._foreach_copy_(self._grads, found)
            for parameter, grad in zip(self._with_grad, self._grads):
                parameter.grad = grad
            return
        grads = []
        for parameter in self._with_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            grads.append(parameter.grad)
        torch._foreach_add_(grads, found)


class _Replay(torch.autograd.Function):
    """Connects the two recordings to what is computed between them."""

    @staticmethod
    def forward(ctx: Any, replayed: ReplayedTraining, anchor: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.replayed = replayed
        replayed._recorded_forward.replay()
        return tuple(value.detach() for value in replayed._recorded_forward.results)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, None]:
        replayed: ReplayedTraining = ctx.replayed
        torch._foreach_copy_(replayed._output_grads, list(grads))
        replayed._recorded_backward.replay()
        replayed.add_gradients()
        return None, None


def _differ(
    replayed: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], typical: torch.Tensor | float = 0
) -> torch.Tensor:
    """Which tensors differ, as one of bools.

    Args:
        replayed: What a replay gave.
        wanted: What the model gives.
        typical: A root mean square; what is small beside it need not agree.
    """
    differences = [one.detach().float() - other.float() for one, other in zip(replayed, wanted, strict=True)]
    allowed = _TOLERANCE * (_root_mean_squares(wanted) + typical) + 1e-6
    return ~(_root_mean_squares(differences) <= allowed)  # what is not a number does not agree


def typical_size(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """The median of the tensors' root mean squares, a scalar.

    Tensors of zeros do not count: fresh adapters have so many gradients of zero that they would be the typical ones.
    """
    sizes = _root_mean_squares(values)
    return sizes[sizes > 0].median() if bool(sizes.any()) else sizes.sum()


def _root_mean_squares(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """That of each tensor, in one."""
    return torch.stack([value.detach().float().square().mean().sqrt() for value in values])


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.device == other.device


@contextmanager
def _recording_errors() -> Iterator[None]:
    """Turns what recording may raise into [`CannotRecordError`]."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise CannotRecordError("there is not enough memory for it") from error
    except RuntimeError as error:
        raise CannotRecordError(str(error).splitlines()[0]) from error
