"""A run: its recipe, the Trainer, what it leaves in its folder, and searches over runs."""
