"""Before and after: two reports of the same proxy, and what became of each cause."""
