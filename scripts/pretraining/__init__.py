"""Parts of `pretrain_tiny.py`."""
