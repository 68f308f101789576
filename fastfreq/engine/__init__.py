"""Images x conditions -> outcomes, once for all measurements."""
