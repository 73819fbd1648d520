"""Segmenting many files into a folder: what is planned, done, written, and resumed."""
