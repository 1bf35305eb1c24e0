"""The embedded base."""
