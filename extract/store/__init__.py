"""The feature store: one Zarr group per split, its records and blocks, upkeep, and features in and out of it."""
