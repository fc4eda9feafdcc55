"""Carry letters between coordinator and members: in memory or over Flower."""
