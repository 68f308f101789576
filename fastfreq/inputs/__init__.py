"""Which input frequencies a model needs, and which break it."""
