"""What a model says of itself: the text of its ``config.pbtxt`` and its tensors in, a description out."""
