"""What others send us: from a connection to an instance that is handed to the storage and acknowledged."""
