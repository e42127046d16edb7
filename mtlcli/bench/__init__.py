"""What networks cost: parameters, operations, memory, time."""
