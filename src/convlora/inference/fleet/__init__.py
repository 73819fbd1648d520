"""Segmenting files with the machines of a Ray cluster."""
