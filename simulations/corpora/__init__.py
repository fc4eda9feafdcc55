"""Texts that are there without a download: public text, and private silos of Python's standard library."""
