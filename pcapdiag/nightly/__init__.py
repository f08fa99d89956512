"""Scans of many captures, what they found and how it is told."""
