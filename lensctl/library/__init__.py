"""What is kept and searched: catalog, vectors, indexer, search."""
