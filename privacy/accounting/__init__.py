"""What releases cost and how costs add up: events, their curves, the filter, and certificates of whole plans."""
