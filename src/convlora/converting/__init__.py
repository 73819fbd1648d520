"""Writing data sets of other tools as a data folder of this package."""
