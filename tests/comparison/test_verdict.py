import pytest

from convlora.comparison.verdict import compare_with_best, digits_for, number_text, verdict


def summary(others, images=40, best="conv-lora"):
    return {"score": "iou", "images": images, "verdict": {"best": best, "others": others}}


def other(method, mean, low, high, seeds=3, ahead=3):
    return {"method": method, "mean": mean, "low": low, "high": high, "seeds": seeds, "ahead": ahead}


def test_a_winner():
    assert verdict(summary([other("unet", 0.03, 0.01, 0.05)])) == [
        "conv-lora is better than unet by 0.03 IoU (interval 0.01 to 0.05, 40 images, 3 seeds)."
    ]
    text = " ".join(verdict(summary([other("unet", 0.03, 0.01, 0.05), other("lora", 0.2, 0.1, 0.3)])))
    assert "also better than lora" in text
    assert "2 of 3 seeds only" in " ".join(verdict(summary([other("unet", 0.03, 0.01, 0.05, ahead=2)])))
    assert "one seed" in " ".join(verdict(summary([other("unet", 0.03, 0.01, 0.05, seeds=1, ahead=1)])))


def test_no_winner():
    first, second, third = verdict(summary([other("lora", 0.01, -0.02, 0.04), other("unet", 0.2, 0.1, 0.3)]))
    assert first.startswith("No clear winner")
    assert "lora" in first
    assert "interval -0.02 to 0.04" in second
    assert third == "conv-lora is better than unet."
    few = {**summary([other("unet", 0.3, 0.2, 0.4)]), "volumes": 4}
    assert "4 volumes are too few to tell" in verdict(few)[0], "however many slices they have"
    assert "3 groups" in verdict({**few, "groups": 3})[0]
    assert "4 images are too few to tell" in verdict(summary([other("unet", 0.3, 0.2, 0.4)], images=4))[0]
    assert "nothing to compare" in verdict(summary([]))[0]


@pytest.mark.parametrize(
    ("low", "high", "digits"),
    [
        (0.01, 0.05, 2),
        (-0.3, 0.4, 1),
        (0.0021, 0.0047, 4),
        (0.003, 0.06, 3),
        (-0.02, 0.001, 3),
        (0.1, 0.1, 4),
        (0, 0, 4),
    ],
)
def test_no_more_decimals_than_the_interval_supports(low, high, digits):
    assert digits_for({"low": low, "high": high}) == digits


def test_numbers_have_no_negative_zero():
    assert number_text(-0.0001, {"low": -0.05, "high": 0.05}) == "0.00"


def test_the_best_is_compared_with_every_other():
    scores = {"a": [[0.5, 0.6, 0.7]], "b": [[0.4, 0.5, 0.6]], "c": [[0.1, 0.9, 0.2]]}
    images = {name: [[{"iou": one} for one in run] for run in runs] for name, runs in scores.items()}
    means = {name: sum(runs[0]) / 3 for name, runs in scores.items()}
    rows = [{"method": name, "mean": {"iou": mean}, "seeds": {"0": {"iou": mean}}} for name, mean in means.items()]
    found = compare_with_best(rows, images, "iou")
    assert found["best"] == "a"
    assert [one["method"] for one in found["others"]] == ["b", "c"]
    nearest, last = found["others"]
    assert nearest["low"] == pytest.approx(0.1)
    assert (nearest["ahead"], nearest["seeds"]) == (1, 1)
    assert last["low"] < 0 < last["high"]
