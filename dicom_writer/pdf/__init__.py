"""The kind `pdf`: a result request in, one verified page as an encapsulated PDF out."""
