"""The room request."""
