"""Rows as training sees them: the dataset, folds, masked words, and files that are written whole."""
