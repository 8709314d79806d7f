"""``slt data check``: what to know about a dataset before training on it."""
