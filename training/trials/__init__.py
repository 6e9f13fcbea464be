"""A search: its space, its objective, the libraries that choose trials, and the trials."""
