"""Data sets as labelling tools and other trainers write them, one reader for each form."""
