"""What a run is: its options, its folder, its checkpoint, its scores and how they compare."""
