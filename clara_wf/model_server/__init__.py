"""A real Triton on this machine: installed once, started on a model repository, gone with its parent."""
