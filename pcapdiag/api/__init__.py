"""`pcapdiag.analyze` and what it returns."""
