"""The families whose negative waits at the doors: each a tiny model, and how many tokens it makes of text and image."""
from .cross import CROSS
from .joint import JOINT

FAMILIES = [*JOINT, *CROSS]
BY_NAME = {family.name: family for family in FAMILIES}
