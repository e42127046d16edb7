"""The parts of `mtl visualize`."""
