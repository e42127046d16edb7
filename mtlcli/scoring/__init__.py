"""How good a network is: evaluation of a checkpoint, measures over a split, baselines."""
