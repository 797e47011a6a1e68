"""The same tables for real models: pictures painted by a ComfyUI, judged by a model or by human eyes."""
