"""What the papers say, and what became of it."""
