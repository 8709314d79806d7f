"""From frames to features: the visual encoder, its weights, what computes it, and its provenance."""
