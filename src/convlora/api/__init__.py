"""What the package does, as functions: `train`, `evaluate`, `predict`, `compare`, `check_data`.

The commands in `convlora.cli` read a command line, call one of them, and print what it returns. Everything else is
imported from here, never the other way round.
"""
