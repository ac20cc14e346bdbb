"""What all kinds of result have in common: a result request in, a data set with its header out."""
