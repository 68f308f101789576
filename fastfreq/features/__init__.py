"""What a network's filters and units look for."""
