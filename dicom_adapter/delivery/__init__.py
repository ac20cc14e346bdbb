"""Results on their way to their destinations, until each has said that it keeps them."""
