"""Compiled loops of the TCP tracker: arrays in, arrays out."""
