"""Measuring what a semantic map shows: connected objects, their sizes in pixels and in units, and their outlines."""
