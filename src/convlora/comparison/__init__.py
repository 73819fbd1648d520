"""Many methods side by side on the same data: planning, running, summing up, showing."""
