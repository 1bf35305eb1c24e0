"""The Stable Diffusion WebUI's API, /sdapi/v1: one file for each topic. Answers have exactly the keys that its clients know."""

from loraloom.web.api.sdapi import checkpoints, extras, images, lists, loras, options, png_info, progress, samplers

ROUTERS = tuple(module.router for module in (images, progress, loras, options, checkpoints, samplers, png_info, extras, lists))
