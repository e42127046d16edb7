"""What is predicted: one file per task, each with its `TASK` record."""
