"""What training leaves behind, read without trusting it."""
