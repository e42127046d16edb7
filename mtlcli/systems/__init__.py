"""How the boxes are wired; the file name is the name."""
