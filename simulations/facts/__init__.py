"""A generated world of facts, each known to one member, and tiny models that are trained for it."""
