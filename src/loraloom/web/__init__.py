"""The server: page, HTTP API, one queue of jobs."""
