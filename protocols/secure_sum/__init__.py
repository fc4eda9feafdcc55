"""Sum what members hold, and show no term: one key set-up, then any number of sums."""
