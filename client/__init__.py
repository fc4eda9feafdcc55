"""The member's side: home, model, daemon, SuperNode. What is private lives here and leaves through the gate alone."""
