"""The two kinds of failure a user meets, told apart by their exit code."""


class InputError(ValueError):
    """Bad usage or bad input (exit code 2).

    The message is one or two plain sentences that name the file or option at fault and say what to do.
    """


class RunError(RuntimeError):
    """A run that was asked for correctly but failed (exit code 1)."""
