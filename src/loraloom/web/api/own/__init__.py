"""Our own API, /api/v1: one file for each topic; the models are in web/api/models.py."""

from loraloom.web.api.own import base, events, extract, health, jobs, networks, pictures, settings

ROUTERS = tuple(module.router for module in (health, base, networks, jobs, extract, pictures, events, settings))
