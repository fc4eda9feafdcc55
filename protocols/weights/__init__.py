"""Collaborations in which LoRA adapters cross the wall."""
