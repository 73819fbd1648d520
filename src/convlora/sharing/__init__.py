"""Putting finished runs where others can use them."""
