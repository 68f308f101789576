"""What every analysis shares: frequencies, conventions, statistics, results."""
