"""Several members: trained over folds and seeds, weighted in the vote, and as teachers."""
