"""Tiny models of the frameworks, trained on phantoms, and what the frameworks themselves make of a phantom."""
