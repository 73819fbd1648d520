"""Vision encoders other than SAM's: which there are, and what each is like."""
