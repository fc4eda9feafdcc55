"""Collaborations at the logit level: private models that answer one position after the other, together."""
