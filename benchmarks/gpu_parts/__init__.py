"""The parts of `gpu.py`, one file each. A part yields tasks; each is guarded and its result is kept at once."""
