"""What may leave home, and what it costs: units, mechanisms, ledger, policy, and the one gate."""
