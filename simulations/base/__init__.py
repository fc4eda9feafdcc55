"""The public base model that every member starts from: its script, its figures and the model itself."""
