"""One experiment in its folder: config, what is done or stale, records, model cards, progress."""
