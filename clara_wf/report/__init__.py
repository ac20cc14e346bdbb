"""What a job gave: its payload in, measures, a picture, one HTML page and JSON out."""
