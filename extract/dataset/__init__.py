"""What there is: dataset adapters and their annotations, the clip index, and what is odd about it."""
