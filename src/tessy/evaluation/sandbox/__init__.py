"""Running programs of unknown origin without access to files, network or other processes."""
