"""Train the recogniser of names, and make the notes that redaction is measured on."""
