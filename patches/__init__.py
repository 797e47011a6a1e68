"""How NAG gets into a model: the equation, the attention, the sampling wrappers and the settings. No node classes."""
