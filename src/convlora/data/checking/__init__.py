"""Checking a data set before any training time is spent on it."""
