"""Pairs, labels and judgements, with the same columns from all sources."""
