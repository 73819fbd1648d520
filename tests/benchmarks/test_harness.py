import sys

from harness import conditions


def test_a_record_names_no_folder_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["benchmarks/step.py", "--output", str(tmp_path / "x.json"), "--rows", "12 epochs/a"]
    )
    assert conditions()["command"] == "python benchmarks/step.py --output x.json --rows '12 epochs/a'"
