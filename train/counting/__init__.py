"""Training of n-gram models: counting in bounded memory, then estimating."""
