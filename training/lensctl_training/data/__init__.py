"""Triplets on disk: shards, JSONL, imports from other formats, and the check of a data set."""
