"""The random base of tests in SD 2.x's layout."""
