"""refit re-runs published reports of convolutional-network experiments."""
