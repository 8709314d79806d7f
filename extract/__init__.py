"""Pixels to features: clip index, dataset adapters, decoding, visual encoder, Dask job, feature store."""
