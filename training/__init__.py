"""How the reference model was made: a 3-D U-Net trained on phantoms. Needs the extra `train`."""
