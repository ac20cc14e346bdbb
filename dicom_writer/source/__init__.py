"""The original images of a mask: a folder in, headers in slice order out, valid where results copy them."""
