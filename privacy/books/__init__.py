"""The pages of the ledger: what one SQLite file holds, and the transactions that change it."""
