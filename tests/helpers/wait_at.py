"""Runs the program, which waits for ever when it is about to look at one image, as at a disk that does not answer.

python -m tests.helpers.wait_at STEM ARGUMENTS...
"""

import sys
import time
from pathlib import Path

from convlora.cli.main import run
from convlora.inference.segmenter import Segmenter

stem, *arguments = sys.argv[1:]
see = Segmenter.see


def waiting(self, image):
    while Path(str(image)).stem == stem:
        time.sleep(0.1)
    return see(self, image)


Segmenter.see = waiting
run(arguments)
