"""Volume -> mask: 0 background, 1 liver, 2 tumour, by a model on a Triton server."""

from ai_livertumor.model import ModelDescription
from ai_livertumor.segment import segment

__all__ = ["ModelDescription", "segment"]
