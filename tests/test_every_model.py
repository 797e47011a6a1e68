"""No model of this ComfyUI is forgotten: each is guided, or refused in a sentence that says what it lacks."""
import inspect

import comfy.model_base
import comfyui_version
import pytest

from mechanisms import is_here
from tested import ROWS, TESTED_BY

OLDEST = "0.3.62"  # of the releases that the pack supports


class _Made(Exception):
    """Carries the class of the diffusion model."""


class _Anything:
    """A model's configuration, which is asked for this and that before the diffusion model is made."""

    def __getattr__(self, name):
        return _Anything()

    def __getitem__(self, name):
        return _Anything()

    def __setitem__(self, name, value):
        pass

    def __call__(self, *args, **kwargs):
        return _Anything()


def classes():
    """Those of comfy.model_base."""
    every = vars(comfy.model_base).values()
    return [cls for cls in every if isinstance(cls, type) and issubclass(cls, comfy.model_base.BaseModel)]


def diffusion_model_of(cls, monkeypatch):
    """The class of what a class of comfy.model_base samples with."""
    signature = inspect.signature(comfy.model_base.BaseModel.__init__)

    def tell(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        raise _Made(bound.arguments["unet_model"])

    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    needed = [each for each in parameters if each.default is each.empty and each.kind < each.VAR_POSITIONAL]
    with monkeypatch.context() as patch:
        patch.setattr(comfy.model_base.BaseModel, "__init__", tell)
        with pytest.raises(_Made) as made:
            cls(**{each.name: _Anything() for each in needed})
    return made.value.args[0]


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_guided_or_refused(patches, monkeypatch, cls):
    refused, registry = patches("models.families.refused").REFUSED, patches("models.families").REGISTRY
    if not {each.__name__ for each in cls.__mro__}.isdisjoint(refused):
        return
    made = diffusion_model_of(cls, monkeypatch)
    names = [f"{each.__module__}.{each.__qualname__}" for each in made.__mro__]
    assert set(names) & registry.keys(), f"nobody has said how {cls.__name__} is guided, or why not"


def test_every_family_is_tested(patches):
    families = {name for adapter in patches("models").adapters() for name in adapter.families}
    assert families == TESTED_BY.keys()
    assert set().union(*TESTED_BY.values()) == ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_the_tiny_model_is_of_its_family(patches, name):
    model = ROWS[name].patcher().model  # skips what this ComfyUI has not
    assert name in TESTED_BY[patches("models").find_adapter(model).family(model)]


@pytest.mark.parametrize("family", TESTED_BY)
def test_since_which_comfyui(patches, family):
    version = tuple(map(int, comfyui_version.__version__.split(".")))
    (adapter,) = (each for each in patches("models").adapters() if family in each.families)
    since = tuple(map(int, adapter.since.get(family, OLDEST).split(".")))
    assert any(is_here(ROWS[name]) for name in TESTED_BY[family]) == (version >= since)
