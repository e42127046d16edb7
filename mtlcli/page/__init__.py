"""The page of `mtl serve`: what it shows, and how it is laid out."""
