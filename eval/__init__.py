"""Scores: translation, metrics, sanity rows, published tables, report."""
