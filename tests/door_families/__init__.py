"""The families whose negative waits at the doors: each a tiny model, and how many tokens it makes of text and image."""
from .cross import CROSS
from .joint import JOINT
from .pooled import POOLED

FAMILIES = [*JOINT, *CROSS, *POOLED]
BY_NAME = {family.name: family for family in FAMILIES}
