"""One call of the model: guided by a run's wrapper, or left alone."""
import functools
from collections.abc import Sequence
from contextlib import contextmanager

import torch
from comfy.patcher_extension import WrappersMP

from ..arithmetic.equation import Equation
from ..models import Adapter, ModelCall
from ..models.compiled import compiled_parts, kinds_of, marks, plain
from ..models.foreign import has_own_way, replaced
from ..models.hooks import hooked, only_inside
from ..models.places import Places, Weights
from ..models.rehearsal import Rehearsals
from .region import SHAPES, masks_of_call, sizes_of, window_of
from .request import KEY
from .witness import Witness

MISFITS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError)  # what is raised where code does not fit

OTHER_CODE = (
    "NAG can't guide this model, in which another node has put code of its own in the place of ComfyUI's: {}. Take "
    "that node out, or NAG. What went wrong there: {}: {}"
)


class ModelWrapper:
    """An APPLY_MODEL wrapper of one run: guides the rows of a model call, or steps aside where NAG does not act.

    Args:
        retained: frames that every one of ComfyUI's context windows keeps.
    """

    def __init__(self, adapter: Adapter, witness: Witness, retained: Sequence[int] = ()):
        self.adapter, self.witness, self.retained = adapter, witness, retained
        self.on_device = functools.cache(_on_device)  # once a run
        # As this is, too: parts that come and go from call to call do so by a wrapper.
        self.compiled = functools.cache(lambda model, wrappers: compiled_parts(model))
        self.kinds = functools.cache(
            lambda parts, model, blocks: kinds_of(parts, adapter.labelled(model), blocks, adapter.is_joint)
        )
        self.brought = {}  # by entries of the negative
        self.weights = {}  # by these, and by what the rows of a call show

    def __call__(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
    ):
        transformer_options = transformer_options or {}
        rows = kwargs.pop(KEY, None)
        active = None if rows is None else rows.at(t, x.shape[0])
        model = executor.class_obj.diffusion_model
        with self.witness.call(model, self._is_guided(rows, active, transformer_options)):
            if active is None:
                return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
            if active.statistics is not None:
                active.statistics.expect(x.device)
            name = self.adapter.text_input
            kwargs["c_crossattn"] = c_crossattn
            call = ModelCall(
                x=x,
                context=kwargs.pop(name),
                entries=active.entries,
                rehearse=self._rehearsing(
                    Rehearsals(executor.class_obj, self.adapter, x, t, c_concat, transformer_options, kwargs)
                ),
                guided=active.guided,
                settings=active.settings,
                equation=self._equation(active, x, sizes_of(x, kwargs.get(SHAPES)), transformer_options, model),
                control=control,
                transformer_options=transformer_options,
                blocks=active.blocks,
                compiled=self.compiled(model, _other_wrappers(transformer_options)),
                weights=active.weights,
                kept=functools.partial(self._kept, executor.class_obj, active, x.device),
            )
            apart = self.adapter.blocks(plain(model)) if self.adapter.block_lists and has_own_way(model) else ()
            with (
                _explained(model),
                hooked(only_inside(apart)),
                self.adapter.guided(model, call) as (context, options),
                hooked(marks(model, call.compiled, self._use(call, plain(model)))),
            ):
                kwargs[name] = context
                return executor(x, t, c_concat, kwargs.pop("c_crossattn"), control, options, **kwargs)

    def _is_guided(self, rows, active, transformer_options):
        """Whether a call is guided; None if one of its conditionings should have come with what guides it."""
        if rows is None and not self.witness.to_guide.isdisjoint(transformer_options.get("uuids", ())):
            return None
        return active is not None

    def _use(self, call, model):
        """`call.use` of the model, and of each compiled part, which NAG may act in or not."""
        if call.blocks is None or not call.compiled:
            return lambda part: call.use
        kinds = self.kinds(call.compiled, model, call.blocks)

        def use(part):
            of_part = kinds.get(part, (call.blocks,))
            acts_everywhere = all(kind == (True, True) for kind in of_part)
            return call.use if acts_everywhere else (call.use, of_part)

        return use

    def _kept(self, model, active, device, number, make):
        patcher = model.current_patcher
        if patcher is None or patcher.current_hooks is not None:  # a LoRA may come and go from step to step
            return make()
        key = device, active.sources[number]
        if key not in self.brought:
            self.brought[key] = make()
        return self.brought[key]

    def _rehearsing(self, rehearsals):
        def rehearse(*args):
            with self.witness.rehearsal():
                return rehearsals(*args)

        return rehearse

    def _equation(self, active, x, sizes, options, model):
        numbers, device, chosen = active.settings.at(active.strength), x.device, active.settings.options
        places = None
        if active.regions is not None or len(set(active.weights)) > 1:
            (strength,) = self.on_device((active.strength,), device)
            as_set = self.on_device(active.settings.numbers, device)
            numbers_at = functools.partial(active.settings.at, numbers=as_set)
            unmasked = active.settings.at(active.strength * max(active.weights))
            weights = self._weights(active, device, sizes, options, model)
            places = Places(weights, strength, numbers_at, unmasked, self.on_device(unmasked, device))
        offset, named = (chosen.vsf_offset,) if chosen.vsf_offset else (), (chosen.equation, chosen.vsf_offset)
        on_device = self.on_device((*numbers, *offset), device)
        return Equation(*numbers, on_device, active.statistics, self.witness, *named, places)

    def _weights(self, active, device, sizes, options, model):
        window = None if active.regions is None else window_of(options, self.retained)
        areas = [(region.count, region.area) for region in active.regions or ()]
        key = device, active.sources, tuple(areas), sizes, window
        if key not in self.weights:
            masks = layout = None
            if active.regions is not None:
                masks = masks_of_call(active.regions, active.weights, sizes, window).to(device)
                layout = self.adapter.layout(model, len(sizes))
            self.weights[key] = Weights(active.weights, device, masks, layout)
        return self.weights[key]


def _other_wrappers(transformer_options):
    """Whose wrappers there are around a call of the model."""
    return tuple(transformer_options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, ()))


@contextmanager
def _explained(model):
    """Says of an error in a guided call whose code may be the cause, if it is another pack's."""
    try:
        yield
    except Exception as error:
        foreign = replaced(model) if type(error) in MISFITS else []
        if not foreign:
            raise
        raise RuntimeError(OTHER_CODE.format(", ".join(foreign), type(error).__name__, error)) from error


def _on_device(numbers, device):
    """Numbers as tensors; filled in there, so that the host does not wait."""
    return tuple(torch.full((), value, dtype=torch.float32, device=device) for value in numbers)
