"""What an experiment puts on its report: scores, curves, clips and provenance."""
