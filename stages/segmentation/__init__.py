"""From a volume to its mask: preprocess, infer, postprocess, and the stage that does so."""
