"""Reading TIFF files: what their headers say, and their values, whole or some rows at a time."""
