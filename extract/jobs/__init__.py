"""Work on a Dask cluster: extraction, packing and the look at every source, block by block."""
