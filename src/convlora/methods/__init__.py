"""Ways of fine-tuning. They know nothing of SAM."""
