"""The HTTP API: the WebUI's (`/sdapi/v1`) and our own (`/api/v1`)."""
