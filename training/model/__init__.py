"""Networks and losses, finished members, and calibration."""
