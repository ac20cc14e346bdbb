"""The kinds `series` and `volume`: a result request in, verified CT images out, one for each slice."""
