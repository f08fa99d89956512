"""The history as a static site: an index, a page per night, per finding, and the full report of each incident."""
