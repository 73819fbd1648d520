"""A program that waits for ever at one image, as at a disk that does not answer."""

import time
from pathlib import Path

from convlora.inference.segmenter import Segmenter


def wait_at(stem):
    """Has this process wait when it is about to read the image of this name."""
    see = Segmenter.see

    def waiting(self, image):
        while Path(str(image)).stem == stem:
            time.sleep(0.1)
        return see(self, image)

    Segmenter.see = waiting


if __name__ == "__main__":
    import sys

    from convlora.cli.main import run

    wait_at(sys.argv[1])
    run(sys.argv[2:])
