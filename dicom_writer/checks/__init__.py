"""What all verifications ask: a data set read back in, an `OutputError` at the first difference."""
