"""Joins what the logs say with what the packets show: one entry to one try, or a reason why there is none."""
