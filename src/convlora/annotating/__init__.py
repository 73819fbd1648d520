"""Functions that annotation tools call: a run annotates images from inside them."""
