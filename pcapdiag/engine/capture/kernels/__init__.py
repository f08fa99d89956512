"""Compiled loops of the capture reader: arrays in, arrays out."""
