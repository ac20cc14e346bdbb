"""From headers to series: which images belong to one volume, what is known of it, and what it may lack."""
