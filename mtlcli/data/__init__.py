"""From bytes to batches: archives, downloads, the dataset file and its reader."""
