"""The volumes that a process keeps open: the last ones, in little memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convlora.data.reading.volumes.slicing import Axis
from convlora.data.reading.volumes.volume import Volume

Kind = Literal["nifti", "dicom", "stack"]

MOST_BYTES = 1 << 30  # of volumes that are in memory; one may be larger
_MOST_OPEN = 64


@dataclass(frozen=True)
class Stored:
    """A volume on a disk.

    Attributes:
        path: A file, or the folder of a DICOM series.
        kind: What it is.
        axis: Which slices it is cut into.
    """

    path: Path
    kind: Kind
    axis: Axis

    def facts(self) -> Volume:
        """What its headers say; slices of NIfTI files and DICOM series cannot be read of it.

        Raises:
            InputError: It cannot be read.
        """
        if self.kind == "nifti":
            from convlora.data.reading.volumes.nifti import nifti_facts

            return nifti_facts(self.path, self.axis)
        if self.kind == "dicom":
            from convlora.data.reading.volumes.dicom import dicom_facts

            return dicom_facts(self.path, self.axis)
        return self._open()

    def open(self) -> Volume:
        """The volume, which is kept open for the next slice.

        Raises:
            InputError: It cannot be read.
        """
        return _KEPT.get(self)

    def _open(self) -> Volume:
        if self.kind == "nifti":
            from convlora.data.reading.volumes.nifti import open_nifti

            return open_nifti(self.path, self.axis)
        if self.kind == "dicom":
            from convlora.data.reading.volumes.dicom import open_dicom

            return open_dicom(self.path, self.axis)
        from convlora.data.reading.volumes.stack import open_stack

        return open_stack(self.path)


class _Kept:
    """The volumes used last; one thread at a time opens one, because two would take twice the memory."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):  # a lock that another thread held would never be free in a fork
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock, self._volumes = threading.Lock(), OrderedDict[Stored, tuple[object, Volume]]()

    def get(self, stored: Stored) -> Volume:
        with self._lock:
            mark, known = _mark(stored.path), self._volumes.get(stored)
            if known is None or known[0] != mark:  # the file may have been replaced
                self._volumes.pop(stored, None)
                self._volumes[stored] = mark, stored._open()
            self._volumes.move_to_end(stored)
            while len(self._volumes) > 1 and self._is_too_much():
                self._volumes.popitem(last=False)
            return self._volumes[stored][1]

    def _is_too_much(self) -> bool:
        held = sum(volume.nbytes for _, volume in self._volumes.values())
        return held > MOST_BYTES or len(self._volumes) > _MOST_OPEN


def _mark(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


_KEPT = _Kept()
