"""Diffusion pipelines: the one room that knows diffusers, PEFT and transformers.

Submodules are imported where they are used; this module imports nothing, so naming the package
costs nothing.
"""
