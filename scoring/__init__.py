"""Predictions out of a file of any size, on the same lanes and in the same batches as serving."""
