"""The coordinator's side: it asks, carries letters over Flower, and holds no private data of anybody."""
