"""Reading images and masks of any usual file format and bit depth."""
