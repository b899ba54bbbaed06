"""A synthetic composed-retrieval data set: scenes of objects, and instructions that change them.

Rendered by us from a seed, so that every claim about the training can be checked anywhere.
"""
