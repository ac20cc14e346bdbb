"""Files and folders that several processes change: a lock for editors, folders exchanged whole, digests."""
