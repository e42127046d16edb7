"""A training run: its loop, and what that needs: state on disk, weightings, signals, log, guards."""
