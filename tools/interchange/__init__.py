"""Who reads what of the files that we write: the tables of docs/interchange.md, measured. `python -m tools.interchange` writes them."""
