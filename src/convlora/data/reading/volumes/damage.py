"""Whatever a library raises over the file of a volume, as a sentence that names the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convlora.errors import InputError


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns what a reader of volumes raises into a sentence.

    Args:
        path: The file.
        kind: What it should be, such as "NIfTI".

    Raises:
        InputError: If anything was raised.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read. Check its permissions.") from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory. Cut the volume into parts.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = "gzip" if path.suffix == ".gz" else kind
        raise InputError(f"{path} is a {found} file that is damaged or cut short. Replace the file.") from error
    except Exception as error:  # damaged files make nibabel and pydicom raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path} cannot be read ({error.strerror}). Check the path and the disk.") from error
        raise InputError(f"{path} is a {kind} file that is damaged or cut short. Replace the file.") from error
