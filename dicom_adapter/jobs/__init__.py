"""From a complete study to a job that has ended, and its results."""
