"""Rows as training sees them: the dataset, folds, masking, and files written whole or not at all."""
