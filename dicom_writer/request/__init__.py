"""The result request: mask, source images, labels and provenance in, all that a kind of result needs out."""
