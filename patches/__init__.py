"""How NAG gets into a model. No node classes.

What is asked for (settings, checks, capabilities) goes down through sampling, models and attention to arithmetic, each
of which knows those below it, and none above.
"""
