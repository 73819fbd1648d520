import pytest

from convlora.errors import InputError
from convlora.words import in_python, speaks_python


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("--image-size must be a number.", "image_size must be a number."),
        ("Give another --output.", "Give another output."),
        ("Use --device cpu.", 'Use device="cpu".'),
        ("--device cuda:1 was asked for.", 'device="cuda:1" was asked for.'),
        ("With --image-size 512 it is 0.9.", "With image_size=512 it is 0.9."),
        ("Lower --image-size. 512 would do.", "Lower image_size. 512 would do."),
        ("predict with --tile-size 96.", "predict with tile_size=96."),
        ("Export it with --format torch.", 'Export it with format="torch".'),
        ("Go on with the same command and --resume.", "Go on with the same call and resume=True."),
        ("Turn it off with --no-cache.", "Turn it off with cache=False."),
        ("Add --adapt-last N, or leave --cache out.", "Add adapt_last N, or leave cache=True out."),
        ("Consider --set data.intensity=image.", 'Consider intensity="image".'),
        ("take it back with --set training.lr=null.", "take it back with lr=None."),
        ("or train without --from.", "or train without from_run."),
        ("no effect without --tile or --tile-size.", "no effect without tile=True or tile_size."),
        (
            "No data: convlora train DATA --output RUN. Or give --model.",
            "No data: convlora train DATA --output RUN. Or give model.",
        ),
        ("The file a--output.png is damaged -- restore it.", "The file a--output.png is damaged -- restore it."),
    ],
)
def test_options_become_arguments(options, arguments):
    assert in_python(options) == arguments


def test_errors_of_a_function_keep_type_and_cause():
    def fail(count: int) -> int:
        """Fails."""
        try:
            return 1 // count
        except ZeroDivisionError as error:
            raise InputError("--seeds must be at least 1.") from error

    with pytest.raises(InputError, match=r"^seeds must be at least 1\.$") as raised:
        speaks_python(fail)(0)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert speaks_python(fail)(1) == 1
    assert speaks_python(fail).__doc__ == "Fails."
