"""What can be measured on embeddings."""
