"""Which frequencies the layers of a network keep."""
