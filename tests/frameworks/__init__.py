"""Tiny models of the frameworks, trained on phantoms, and what the frameworks make of a phantom."""
