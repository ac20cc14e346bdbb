"""The geometry gate: headers of one volume become slices in order on a regular grid, or are refused."""
