"""The room rtstruct."""
