"""Ways of fine-tuning. They know nothing of SAM."""

import peft  # noqa: F401 - whose import imports our methods, each of them before it was half imported itself
