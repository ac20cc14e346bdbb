"""Source images with the outlines of labels: drawn for captures and pages, compared when read back."""
