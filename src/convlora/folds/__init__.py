"""Cross-validation: a run for each fold, their scores on what they did not see, and a page about them."""
