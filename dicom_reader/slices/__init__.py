"""The room slices."""
