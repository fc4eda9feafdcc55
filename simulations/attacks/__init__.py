"""Try what a curious participant would try on what leaves a home, and count how often it works."""
