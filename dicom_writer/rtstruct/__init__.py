"""The kind `rtstruct`: a result request in, one verified RT Structure Set out."""
