"""Recognise names of people, organisations and places, with a small network of our own in numpy."""
