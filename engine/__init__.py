"""How a bundle runs on a machine: cores, lanes, batches, the queue. No HTTP here."""
