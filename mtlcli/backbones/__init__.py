"""Backbones: image -> four maps at strides 4 to 32; the file name is the name."""
