"""The room source."""
