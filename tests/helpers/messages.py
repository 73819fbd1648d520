"""What a sentence for users has to hold, in whatever words."""


def says(text: str, *facts: object) -> None:
    """Fails unless a text holds each of the facts: files, options, numbers, the remedy."""
    flat = " ".join(text.split())
    missing = [str(fact) for fact in facts if str(fact) not in flat]
    assert not missing, f"{missing} not in {flat!r}"
