"""What the processes of `forked.py` need, loaded once and not computed with: after that, processes can be forked.

Also what is loaded late only so that other commands begin sooner: scores and figures, half of the time of a short run.
"""

import matplotlib.figure  # noqa: F401
import py_sod_metrics  # noqa: F401

import convlora.api.train
import convlora.cli.main
import convlora.cli.progress
import convlora.comparison.run
import convlora.inference.files.plan
import convlora.inference.scoring
import convlora.inference.segmenter
import convlora.training.run
import convlora.training.trainer  # noqa: F401
from tests.helpers.figures import leave_empty

leave_empty()  # as in the process of the tests
