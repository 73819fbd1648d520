"""Data sets: finding images and masks, checking them, and turning them into tensors.

Nothing is imported here, so that finding and checking data do not wait for torch.
"""
