"""Collaborations in which text crosses the wall, redacted, or counts that are summed secretly."""
