"""Inference: features to sentences by beam search, the sanity rows, and what the decoder looked at."""
