"""From the name of a model to embeddings."""
