"""Models of other frameworks: a reader for each says what it is, and it becomes a folder of Triton."""
