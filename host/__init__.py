"""A ComfyUI of our own to test against and to show the pack in: set up, started, driven, shown."""
