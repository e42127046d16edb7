"""Grids of runs that are compared under one budget, one file each."""
