"""The room seg."""
