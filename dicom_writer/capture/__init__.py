"""The kind `capture`: a result request in, verified Secondary Captures out, one for each key slice."""
