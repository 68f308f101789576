"""The language of the toolkit: frequencies, masks, conventions, statistics; it knows arrays and nothing else."""
