"""The room mask."""
