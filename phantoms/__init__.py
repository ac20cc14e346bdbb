"""Synthetic abdominal CT: an organ model in millimetres, drawn on any grid, and a DICOM series of it.

Nobody was scanned for these images. They make the demo input, they train the reference model, and
they give tests an input whose answer is known.
"""

from phantoms.abdomen import DEMO_SEED, AbdomenPhantom, make_abdomen, make_demo
from phantoms.anatomy import Anatomy

__all__ = ["DEMO_SEED", "AbdomenPhantom", "Anatomy", "make_abdomen", "make_demo"]
