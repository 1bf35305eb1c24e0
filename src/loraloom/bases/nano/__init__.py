"""The random base of tests."""
