"""Runs made of what other software has trained."""
