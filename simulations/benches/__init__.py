"""Measure this state beside peers: one module a benchmark, one a peer."""
