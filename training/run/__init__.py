"""One run: its recipe, its trainer, and the record in its folder."""
