"""Frame packs: the frames of a split in a few HDF5 files, written and read."""
