"""The embedded default: a drawn world, and small models that are trained on it."""
