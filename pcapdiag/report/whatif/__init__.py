"""How a what-if is told: as JSON, on a terminal, as Markdown, as a page. Knows scenarios, not how they came about."""
