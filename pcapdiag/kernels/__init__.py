"""Compiled loops: arrays in, arrays out. Only numpy and numba; no strings, no objects, no files, no clocks.

Importing this package is cheap; importing one of its modules imports numba.
"""
