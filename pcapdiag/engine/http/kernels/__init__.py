"""Compiled loops of the HTTP framer: arrays in, arrays out."""
