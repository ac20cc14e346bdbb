"""How much memory of the host and of a GPU a run may take, and memory that processes share."""
