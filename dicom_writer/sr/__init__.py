"""The room sr."""
