"""Reports that people open in a browser: one HTML file with everything in it."""
