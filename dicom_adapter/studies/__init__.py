"""From received instances to a complete study, and in the end its removal."""
