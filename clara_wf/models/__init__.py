"""A Triton model repository: models are read, compared, tried and added; what is served gets a record."""
