"""Compiled loops of the replay: arrays in, arrays out."""
