"""The room series."""
