"""What the scores say: whole splits, comparisons, slices, published rows, and the tables of them."""
