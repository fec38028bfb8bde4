"""What the papers propose."""
