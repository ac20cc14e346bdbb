"""The room pdf."""
