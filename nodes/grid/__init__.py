"""Many settings in one picture."""
from .node import NAGGrid

__all__ = ["NAGGrid"]
