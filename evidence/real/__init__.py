"""The same tables for real models: pictures painted by a ComfyUI, judged by a model or by human eyes."""
from .command import add_arguments, main

__all__ = ["add_arguments", "main"]
