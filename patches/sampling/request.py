"""What a node asks for."""
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from ..settings import Settings
from ..travelling import Travelling
from .statistics import Step

# Under which a conditioning's model_conds carry its Request, then the guidance of its rows, and a model its wrapper.
KEY = "normalized_attention_guidance"


@dataclass(frozen=True)
class Silence(Travelling):
    """Where nobody listens, and nothing is known."""

    def __call__(self, *said) -> bool:
        return False


@dataclass(frozen=True)
class Request(Travelling):
    """What a node asks for: these settings and this negative. It may go to another process, see `travelling`.

    Args:
        settings: as set by the user.
        negative: a ComfyUI CONDITIONING, or None for the one that the sampler gets.
        report: told what NAG did at each step, where the settings want statistics.
        advise: told at the start of each run what the user should know of it, in sentences; of none, too; and whether
            for that NAG does nothing of use.
        fail: told of an error of NAG's that ends a run.
        has_blank_negative: says, when a run starts, whether the negative's text is empty, as far as a graph shows it.
        mark: the same in all copies of one request: conditionings reach another process one by one.
    """

    settings: Settings
    negative: list | None = None
    report: Callable[[Step], None] | None = None
    advise: Callable[[list[str], bool], None] = Silence()
    fail: Callable[[str], None] = Silence()
    has_blank_negative: Callable[[], bool] = Silence()
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
