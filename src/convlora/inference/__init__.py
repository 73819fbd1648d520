"""Using trained models: predictions and scores."""
