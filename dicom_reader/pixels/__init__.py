"""The room pixels."""
