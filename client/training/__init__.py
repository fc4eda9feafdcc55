"""How a member trains: gradients of single records, their clipping, and what noise a run needs."""
