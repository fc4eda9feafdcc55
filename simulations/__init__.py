"""Experiments: from one file to a plan, a simulation, a run on real nodes, and a report."""
