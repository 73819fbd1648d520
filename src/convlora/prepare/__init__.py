"""Fetching the data sets of the published experiments and putting them into the layout that training reads."""
