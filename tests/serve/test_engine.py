"""The thread that computes: batches, runs that are not mixed, and errors."""

import threading

import numpy as np
import pytest
import torch

from convlora.serve.engine import Engine
from tests.serve.conftest import SAVED


@pytest.fixture(scope="module")
def segmenters(served):
    return {name: run.segmenter for name, run in served.items()}


@pytest.fixture(scope="module")
def images(segmenters, photos):
    """What the models see; all work at one size."""
    return [segmenters["late"].see(path) for path in photos.values()]


class Gate:
    """Holds a model back until all images wait."""

    def __init__(self, segmenter, monkeypatch):
        self.may, self.asked, self._outputs = threading.Event(), threading.Event(), segmenter.outputs
        monkeypatch.setattr(segmenter, "outputs", self._wait, raising=False)

    def _wait(self, images):
        self.asked.set()
        assert self.may.wait(30)
        return self._outputs(images)


def test_batches_give_what_single_images_give(segmenters, images, monkeypatch):
    alone = {name: [one.predict_probability(image) for image in images] for name, one in wrapped(segmenters).items()}
    engine = Engine(segmenters, batch_size=4)
    gate = Gate(segmenters["late"], monkeypatch)
    first = engine.submit("late", images[0])
    gate.asked.wait(30)
    waiting = [
        (name, number, engine.submit(name, image, wants_levels=True))
        for number, image in enumerate(images)
        for name in ("late", "conv-lora")  # in turn
    ]
    gate.may.set()
    for name, number, future in waiting:
        answer, expected = future.result(60), alone[name][number]
        assert np.abs(answer.levels - (np.ceil(expected * 256) - 1).clip(0, 255)).max() <= 1
        clear = np.abs(expected - 0.5) > 1e-4
        assert clear.mean() > 0.99
        assert np.array_equal(answer.semantic_map[clear], expected[clear] > 0.5)
    assert first.result(1).levels is None
    assert list(engine.batches)[:2] == [1, 4]
    assert sum(engine.batches) == 1 + len(waiting)
    assert max(engine.batches) == 4
    engine.close()


class wrapped(dict):  # noqa: N801
    """Segmenters that tell the probability of the foreground in what they have seen."""

    def __init__(self, segmenters):
        super().__init__({name: _Alone(segmenters[name]) for name in ("late", "conv-lora")})


class _Alone:
    def __init__(self, segmenter):
        self._segmenter = segmenter

    def predict_probability(self, image):
        from convlora.inference.outputs import own_probabilities

        ((output, index),) = self._segmenter.outputs([image.pixels])
        return own_probabilities(output, index, image.size)[1].numpy()


def test_single_images_are_answered_bit_for_bit(segmenters, images):
    engine = Engine(segmenters)
    for name, segmenter in segmenters.items():
        futures = [engine.submit(name, image) for image in images]
        for future, expected in zip(futures, [segmenter.maps_of([image])[0] for image in images]):
            assert np.array_equal(future.result(60).semantic_map, expected)
            assert future.result().semantic_map.dtype == expected.dtype
    engine.close()


def test_many_threads_get_the_answer_of_their_run(segmenters, images):
    expected = {
        (name, number): segmenters[name].maps_of([image])[0]
        for name in segmenters
        for number, image in enumerate(images[:4])
    }
    assert not np.array_equal(expected["late", 0], expected["conv-lora", 0])
    engine, wrong = Engine(segmenters, batch_size=3), []

    def ask(seed):
        for turn in np.random.default_rng(seed).permutation(len(expected)):
            name, number = list(expected)[turn]
            found = engine.submit(name, images[number]).result(60).semantic_map
            if (found != expected[name, number]).mean() > 0.001:  # of a batch, a pixel at 0.5 may fall either way
                wrong.append((name, number))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(engine.batches) == 6 * len(expected)
    assert max(engine.batches) > 1
    engine.close()


def test_what_is_given_up_is_not_computed(segmenters, images, monkeypatch):
    engine, gate = Engine(segmenters), Gate(segmenters["late"], monkeypatch)
    first = engine.submit("late", images[0])
    gate.asked.wait(30)
    given_up, last = engine.submit("late", images[1]), engine.submit("late", images[2])
    assert given_up.cancel()
    gate.may.set()
    assert first.result(60).semantic_map.shape == images[0].size
    assert last.result(60).semantic_map.shape == images[2].size
    assert list(engine.batches) == [1, 1]
    engine.close()


def test_an_error_reaches_those_who_wait_and_nobody_else(segmenters, images, monkeypatch):
    engine = Engine(segmenters, batch_size=2)
    with monkeypatch.context() as patch:
        patch.setattr(segmenters["late"], "outputs", lambda images: 1 / 0, raising=False)
        broken, fine = engine.submit("late", images[0]), engine.submit("conv-lora", images[0])
        with pytest.raises(ZeroDivisionError):
            broken.result(60)
        assert fine.result(60).semantic_map.shape == images[0].size
    assert engine.is_alive
    assert engine.submit("late", images[0]).result(60)
    engine.close()


def test_closing_ends_it(segmenters, images, monkeypatch):
    engine, gate = Engine(segmenters), Gate(segmenters["late"], monkeypatch)
    first = engine.submit("late", images[0])
    gate.asked.wait(30)
    second = engine.submit("late", images[1])
    threading.Timer(0.2, gate.may.set).start()
    engine.close(60)
    assert not engine.is_alive
    assert second.cancelled()
    assert first.result(0) is not None
    assert engine.submit("late", images[0]).cancelled()


def test_runs_of_one_sam_share_its_weights(served):
    """And answer, to the bit, what each answers when it is loaded alone."""
    from convlora.inference.segmenter import Segmenter

    first, second = (dict(served[name].segmenter.model.named_parameters()) for name in ("conv-lora", "late"))
    places = {tensor.data_ptr(): tensor for tensor in first.values()}
    shared = sum(tensor.numel() for tensor in second.values() if tensor.data_ptr() in places)
    sam = sum(tensor.numel() for name, tensor in first.items() if "lora" not in name and "modules_to_save" not in name)
    assert shared > 0.9 * sam > 1000
    trained = [name for name in second if "lora_B" in name or "modules_to_save" in name]
    assert sum(second[name].data_ptr() not in places for name in trained) > 0.7 * len(trained) > 1
    image = SAVED / "images" / "cells.png"
    for name in ("conv-lora", "late"):
        alone = Segmenter.load(SAVED / name, model=str(SAVED / "sam"), device="cpu", precision="fp32")
        expected = alone.predict(image)
        assert np.array_equal(served[name].segmenter.predict(image).probabilities, expected.probabilities)


def test_equal_weights_are_shared_and_others_are_not():
    from convlora.models.shared_weights import share_equal_weights

    def model(seed, change=0.0):
        torch.manual_seed(seed)
        made = torch.nn.Sequential(torch.nn.Linear(30, 40), torch.nn.Linear(40, 1))
        made[0].weight.data[7, 3] += change
        return made

    first, same, other, changed = model(0), model(0), model(1), model(0, change=1e-6)
    states = [
        {name: value.clone() for name, value in one.state_dict().items()} for one in (first, same, other, changed)
    ]
    saved = share_equal_weights([first, same, other, changed])
    assert same[0].weight.data_ptr() == first[0].weight.data_ptr()
    assert other[0].weight.data_ptr() != first[0].weight.data_ptr()
    assert changed[0].weight.data_ptr() != first[0].weight.data_ptr()
    assert changed[0].bias.data_ptr() == first[0].bias.data_ptr()
    assert saved == 4 * ((30 * 40 + 40 + 40 + 1) + (40 + 40 + 1))
    for one, state in zip((first, same, other, changed), states):
        assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())


def test_levels_are_exact():
    from convlora.serve.engine import _levels

    above = float(np.nextafter(np.float32(0.5), np.float32(1)))
    probability = torch.tensor([[0.0, 1 / 256, 1.5 / 256, 0.5, above, 254.5 / 256, 1.0]])
    assert _levels(probability.clone()).tolist() == [[0, 0, 1, 127, 128, 254, 255]]
    for level in range(1, 256):
        edge = torch.tensor([[level / 256, np.nextafter(np.float32(level / 256), np.float32(1))]])
        assert (_levels(edge) >= level).tolist() == [[False, True]]
