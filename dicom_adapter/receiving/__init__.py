"""What others send us: from the wire to a synced file that is acknowledged."""
