"""The families whose negative waits at the doors: each a tiny model, and how many tokens it makes of text and image."""
from . import cross, joint
from .pooled import ONE_ROW, POOLED
from .projected import JOINED, PROJECTED
from .sana import SANAS

JOINT = [*joint.JOINT, *JOINED]
CROSS = [*cross.CROSS, *PROJECTED, *SANAS]
FAMILIES = [*JOINT, *CROSS, *POOLED]
BY_NAME = {family.name: family for family in [*FAMILIES, *ONE_ROW]}
