"""ComfyUI's hooks, which conditionings carry in groups: NAG Conditioning's own, and other nodes' LoRAs."""
from collections.abc import Iterable
from contextlib import contextmanager

from comfy.hooks import EnumHookType, Hook, HookGroup

from ..models.foreign import named

LORA_OF_ITS_OWN = (
    "The NAG negative has a LoRA of its own, by a hook, but it shares the model call of the positive, whose LoRAs hold "
    "for both. Give the positive the same hooks, or connect a negative without hooks to nag_negative."
)

NO_COPY = (
    "The positive has hooks of another node, {}, and ComfyUI fails to copy them, as it does to add a further one. Put "
    "NAG Conditioning in front of the node that brings them. What went wrong: {}: {}"
)


def check_loras(negatives: Iterable[dict], positives: Iterable[dict]) -> None:
    """Raise a ValueError if a negative brings LoRAs that no positive has: the two are computed in one model call.

    negatives, positives: conditionings as a guider holds them.
    """
    if _loras(negatives) - _loras(positives):
        raise ValueError(LORA_OF_ITS_OWN)


def _loras(conditionings):
    return {hook for group in map(_group, conditionings) for hook in group.get_type(EnumHookType.Weight)}


def drop_hook(conditionings: Iterable[dict], hook_id: str) -> None:
    """Take a hook out of the conditionings of a run, as a guider holds them.

    What is left of a group becomes a group that others have, if there is one, since ComfyUI batches conditionings by
    their very group, and changes the model's weights from one to the next.
    """
    conditionings = [conditioning for conditioning in conditionings if len(_group(conditioning))]
    groups = {_contents(conditioning["hooks"].hooks): conditioning["hooks"] for conditioning in conditionings}
    for conditioning in conditionings:
        hooks = conditioning["hooks"].hooks
        others = [hook for hook in hooks if hook.hook_id != hook_id]
        if not others:
            del conditioning["hooks"]
        elif len(others) < len(hooks):
            conditioning["hooks"] = groups.setdefault(_contents(others), _grouped(others))


def _group(conditioning) -> HookGroup:
    return conditioning.get("hooks") or HookGroup()


def _grouped(hooks):
    group = HookGroup()
    for hook in hooks:
        group.add(hook)
    return group


def _contents(hooks: Iterable[Hook]) -> frozenset:
    """What two groups have in common that do the same: a hook's clones share its reference, and may differ in time."""
    return frozenset((hook.hook_ref, hook.hook_keyframe) for hook in hooks)


@contextmanager
def explained_hooks(conditioning: list):
    """Says whose hooks a CONDITIONING has, in a ValueError, where ComfyUI fails to copy them."""
    try:
        yield
    except Exception as error:
        hooks = [hook for _, values in conditioning for hook in _group(values).hooks]
        kinds = ", ".join(dict.fromkeys(named(type(hook)) for hook in hooks))
        raise ValueError(NO_COPY.format(kinds, type(error).__name__, error)) from error
