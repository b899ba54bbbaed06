"""Pixels and words into vectors: one interface, several models."""
