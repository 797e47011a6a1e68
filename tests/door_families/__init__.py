"""The families whose negative waits at the doors: each a tiny model, and how many tokens it makes of text and image."""
from . import cross
from .joint import JOINT
from .pooled import POOLED
from .projected import PROJECTED

CROSS = [*cross.CROSS, *PROJECTED]
FAMILIES = [*JOINT, *CROSS, *POOLED]
BY_NAME = {family.name: family for family in FAMILIES}
