"""Let a home's model write: what it is told, where it runs, and what is taken out of its words."""
