"""Changes files at random and reads them; anything but a result or an InputError is a finding."""

from __future__ import annotations

import hashlib
import random
import resource
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from convlora.errors import InputError
from tests.fuzz.readers import READERS

_TOKENS = [
    b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"-1", b"1e999", b"NaN", b"null", b"[", b"{", b'"', b"]",
    b"}", b"../", b"\n", b",", b":", b"&a ", b"*a", b"!!bool ", b"!!int ''",
    b":1", b"!!python/name:os.system ", b"999999999999999999999", b"true",
    b"''", b"[]", b"{}", b"\\u0000", b"\xc3\x28", b"%s", b"  ", b"\t", b"- ", b"0", b"-0.5", b"1.5",
]  # fmt: skip
MEMORY = 4 << 30  # bytes a reader may add to what the process has; no seed needs a thousandth of it
SECONDS = 10.0  # per file; none of the seeds takes a hundredth of it


def mutate(content: bytes, rng: random.Random) -> bytes:
    """A few changes of the usual kinds."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        kind, at = rng.randrange(8), rng.randrange(max(len(data), 1))
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            data = data[:at]
        elif kind == 3:
            data[at:at] = rng.choice(_TOKENS)
        elif kind == 4:
            end = at + rng.randrange(1, 32)
            data[at:end] = rng.choice(_TOKENS)
        elif kind == 5:
            del data[at : at + rng.randrange(1, 64)]
        elif kind == 6:
            piece = bytes(data[at : at + rng.randrange(1, 64)])
            data[at:at] = piece * rng.choice((1, 2, 40))
        elif len(data) > 4:
            number = rng.choice((0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32)))
            data[at : at + 4] = number.to_bytes(4, rng.choice(("little", "big")))
    return bytes(data)


def read(name: str, content: bytes, folder: Path) -> str | None:
    """Reads a file, and tells what went wrong, if it was not said as it should be."""
    reader = READERS[name]
    path = folder / reader.name
    path.write_bytes(content)
    begin = time.perf_counter()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, limits[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
    except InputError as error:
        if not 15 < len(str(error)) < 2000:
            return f"no sentence: {str(error)[:2100]!r}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name} line {where.lineno})"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    seconds = time.perf_counter() - begin
    return f"took {seconds:.1f} s" if seconds > SECONDS else None


def fuzz(
    name: str, *, seconds: float | None = None, files: int | None = None, seed: int | None = 0, keep: Path | None = None
) -> tuple[int, list[str]]:
    """Reads changed files until the time is over or so many were read; returns their number and the findings."""
    rng, count, found = random.Random(seed), 0, {}
    end = None if seconds is None else time.perf_counter() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        while (files is None or count < files) and (end is None or time.perf_counter() < end):
            content = mutate(rng.choice(READERS[name].seeds), rng)
            said = read(name, content, folder)
            count += 1
            if said is not None and said.split(" (")[-1] not in found:
                found[said.split(" (")[-1]] = said
                if keep is not None:
                    place = keep / name / hashlib.sha256(content).hexdigest()[:12]
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
    return count, list(found.values())


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
