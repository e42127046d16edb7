"""Files that hold a network without this package: one file per format, each with its `FORMAT`."""
