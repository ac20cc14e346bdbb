"""The kind `report`: a result request in, one verified Structured Report out."""
