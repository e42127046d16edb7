"""How good a network is and what it costs: scores on a split, baselines, benches."""
