"""Hypotheses and references: ``predictions.jsonl``, other systems' files, joined by clip id."""
