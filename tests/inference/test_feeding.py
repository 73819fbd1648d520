"""Images are read ahead, results are written behind, and batches shrink where memory runs out."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import SegmentationDataset
from convlora.data.sample import Sample
from convlora.errors import InputError
from convlora.inference import scoring as scoring_module
from convlora.inference.background import in_background
from convlora.inference.files import jobs as predict_module
from convlora.inference.files.jobs import run_jobs
from convlora.inference.files.plan import Job
from convlora.inference.fitting import FittingBatches
from convlora.inference.scoring import new_baselines, score_samples
from tests.inference.local_model import local_segmenter, noise


def small_memory(most):
    """Doubles its input; runs out of memory with more than so many images."""
    calls = []

    def forward(batch):
        calls.append(len(batch))
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return 2 * batch

    return forward, calls


def test_batches_are_halved_until_they_fit():
    forward, calls = small_memory(2)
    fitting = FittingBatches(8)
    images = torch.arange(9)
    assert [int(output[index]) for output, index in fitting.outputs(forward, images)] == [2 * n for n in range(9)]
    assert calls == [8, 4, 2, 2, 2, 2, 1]
    calls.clear()
    assert len(list(fitting.outputs(forward, images[:3]))) == 3
    assert calls == [2, 1], "it is not tried again"


def test_a_single_image_that_does_not_fit_and_other_errors():
    forward, calls = small_memory(0)
    with pytest.raises(torch.OutOfMemoryError):
        list(FittingBatches(4).outputs(forward, torch.arange(4)))
    assert calls == [4, 2, 1]

    def broken(batch):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(FittingBatches(4).outputs(broken, torch.arange(4)))
    forward, calls = small_memory(2)
    with pytest.raises(torch.OutOfMemoryError):
        list(FittingBatches(4, may_shrink=False).outputs(forward, torch.arange(4)))


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_background_work_keeps_the_order_and_does_not_run_far_ahead(threads):
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    for result in in_background(lambda number: number**2, items(), threads, ahead=4):
        number = round(result**0.5)
        assert number**2 == result
        assert len(taken) <= number + 1 + (4 if threads else 0)
    assert result == 19**2


@pytest.mark.parametrize("threads", [0, 2])
def test_what_background_work_raises_comes_in_its_turn(threads):
    def work(number):
        if number == 2:
            raise InputError("bad")
        return number, threading.current_thread() is threading.main_thread()

    results = in_background(work, range(9), threads, ahead=3)
    assert [next(results), next(results)] == [(0, threads == 0), (1, threads == 0)]
    with pytest.raises(InputError, match="bad"):
        next(results)


@pytest.fixture
def jobs(tmp_path):
    """Five images, the second of which is none."""

    def make(folder, overlay=False):
        made = []
        for number in range(5):
            image = tmp_path / f"{number}.png"
            if number == 1:
                image.write_bytes(b"no image")
            else:
                Image.fromarray(noise(30 + number, 40, seed=number)).save(image)
            target = tmp_path / folder
            made.append(Job(image, target / f"{number}.png", target / f"{number}_o.png" if overlay else None))
        return made

    return make


@pytest.mark.parametrize("threads", [0, 2])
def test_predictions_do_not_depend_on_batches_threads_and_memory(jobs, tmp_path, monkeypatch, threads):
    torch.manual_seed(0)
    plain = local_segmenter("per-pixel")
    expected = list(run_jobs(plain, jobs("a", overlay=True), batch_size=1))
    monkeypatch.setattr(predict_module, "background_threads", lambda device, images: threads)
    torch.manual_seed(0)
    tight = local_segmenter("per-pixel")
    original = tight.model.forward

    def forward(pixel_values):
        if len(pixel_values) > 1:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return original(pixel_values)

    monkeypatch.setattr(tight.model, "forward", forward)
    found = list(run_jobs(tight, jobs("b", overlay=True), batch_size=4))
    assert [result["image"] for result in found] == [result["image"] for result in expected]
    assert ["error" in result for result in found] == [False, True, False, False, False]
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 2 * 4 + 1
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_scores_do_not_depend_on_memory(tmp_path, monkeypatch):
    segmenter = local_segmenter()
    samples = []
    for number in range(5):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}_m.png"
        Image.fromarray(noise(30 + number, 40, seed=number)).save(image)
        Image.fromarray((noise(30 + number, 40, seed=9 + number)[..., 0] > 99).astype(np.uint8)).save(mask)
        samples.append(Sample(image, mask, str(number)))
    how = {"image_size": segmenter.image_size}
    rows: list = []
    expected = score_samples(segmenter.model, samples, segmenter.classes, images=rows, **how).compute()
    original = segmenter.model.forward

    def forward(pixel_values):
        if len(pixel_values) > 2:
            raise torch.OutOfMemoryError
        return original(pixel_values)

    monkeypatch.setattr(segmenter.model, "forward", forward)
    tight_rows: list = []
    found = score_samples(segmenter.model, samples, segmenter.classes, batch_size=4, images=tight_rows, **how).compute()
    assert found == pytest.approx(expected, abs=1e-6)
    assert [row["image"] for row in tight_rows] == [row["image"] for row in rows] == list("01234")


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_do_not_depend_on_threads(tmp_path, monkeypatch, classes):
    segmenter = local_segmenter("per-pixel" if classes > 2 else "binary")
    samples = []
    for number in range(4):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}_m.png"
        Image.fromarray(noise(30 + number, 40, seed=number)).save(image)
        Image.fromarray((noise(30 + number, 40, seed=9 + number)[..., 0] % classes).astype(np.uint8)).save(mask)
        samples.append(Sample(image, mask, str(number)))
    collected = []
    for threads in (0, 1):
        monkeypatch.setattr(scoring_module, "background_threads", lambda device, images, threads=threads: threads)
        rows, trivial, done = [], new_baselines(segmenter.classes), []
        scores = score_samples(
            segmenter.model,
            samples,
            segmenter.classes,
            image_size=segmenter.image_size,
            batch_size=3,
            images=rows,
            trivial=trivial,
            progress=done.append,
        )
        collected.append((scores.compute(), scores.state_dict(), rows, trivial.state_dict(), sum(done)))
    assert collected[0] == collected[1]
    assert collected[0][-1] == 4


def test_training_and_prediction_see_the_same_pixels(tmp_path):
    """Of a large photograph too, which is decoded at a fraction of its size."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    Image.fromarray(np.zeros((300, 400), np.uint8)).save(tmp_path / "a.png")
    segmenter = local_segmenter(window=(32, 48))
    seen = segmenter.see(tmp_path / "a.jpg")
    assert (seen.size, seen.whole) == ((300, 400), None)
    sample = Sample(tmp_path / "a.jpg", tmp_path / "a.png", "a")
    dataset = SegmentationDataset([sample], ClassTable(("a", "b")), (32, 48))
    assert torch.equal(dataset[0]["pixel_values"], seen.pixels)
    assert segmenter.predict_maps([tmp_path / "a.jpg"])[0].shape == (300, 400)
