"""`convlora serve`: a page and an HTTP interface that segment images with finished runs."""
