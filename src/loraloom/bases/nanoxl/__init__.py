"""The random base of tests in SDXL's layout."""
