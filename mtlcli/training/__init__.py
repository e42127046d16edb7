"""What a training run needs around its loop: state on disk, signals, log, guards, precision."""
