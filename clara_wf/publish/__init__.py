"""Workflows are put, checked and versioned, into a folder where engines find them, and are read back."""
