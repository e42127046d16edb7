"""A training run: the loop, and around it state on disk, weightings, signals, log, guards."""
