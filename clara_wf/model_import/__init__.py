"""Models of other frameworks: a reader for each says what it is, then it becomes a folder as Triton has them."""
