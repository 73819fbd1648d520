"""What the processes of `forked.py` need, loaded once and not computed with: after that, processes can be forked."""

import convlora.cli.main
import convlora.comparison.run
import convlora.inference.files.plan
import convlora.inference.scoring
import convlora.inference.segmenter
import convlora.training.run
import convlora.training.trainer  # noqa: F401
from tests.helpers.figures import leave_empty

leave_empty()  # as in the process of the tests
