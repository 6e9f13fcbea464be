"""Runs compared with each other: two or more runs, and a study of methods over several seeds."""
