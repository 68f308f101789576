"""Which frequencies a network learns first."""
