"""Take private spans out of text before it leaves, and put them back at home. Redaction is not anonymity."""
