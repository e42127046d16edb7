"""The commands of `mtl`, one file each: options in, one call, print."""
