"""TotalSegmentator: which of its weights are what, and its steps around nnU-Net; parts become one model."""
