"""A custom node pack for the tests alone: tiny models, conditionings that are not right, and a node that makes sampling
fail or wait where it is told to.
"""
import hashlib
import sys
import time
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import CallbacksMP, WrappersMP

TESTS = str(Path(__file__).resolve().parent.parent)
if TESTS not in sys.path:
    sys.path.append(TESTS)

import families  # noqa: E402
from families import TEXT  # noqa: E402
from mechanisms import BY_NAME  # noqa: E402

new_patcher = families._patcher.__wrapped__  # not from its cache
PATIENCE = 60  # seconds to wait for whoever is to interrupt
AT_THE_GATE = Path(folder_paths.get_output_directory(), "at_the_gate")


class Anything(str):
    """A type that fits every input, as some packs have it."""

    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


class Node:
    """A node of ComfyUI's older API: its inputs are those of `run`, with their types as annotations."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "tests", False

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {k: (kind, {}) for k, kind in cls.run.__annotations__.items()}}


class ForOneRun:
    """What is never taken from ComfyUI's cache."""

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")


class TinyModel(Node):
    """A family's tiny model, one of its own for each time that the node runs."""

    RETURN_TYPES = ("MODEL",)

    def run(self, family: "STRING"):  # noqa: F821
        return (new_patcher(BY_NAME[family], torch.float32),)


class TinyText(Node):
    """A conditioning for a family's tiny model; how it is to be wrong is the name of one of WRONG."""

    RETURN_TYPES = ("CONDITIONING",)

    def run(self, family: "STRING", seed: "INT", wrong: "STRING"):  # noqa: F821
        right = BY_NAME[family].conditioning(seed, 4 + seed)
        return (WRONG[wrong](right),)


class TinyLatent(ForOneRun, Node):
    """An empty latent. Whatever samples it runs each time."""

    RETURN_TYPES = ("LATENT",)

    def run(self, family: "STRING"):  # noqa: F821
        return ({"samples": torch.zeros(1, *BY_NAME[family].latent)},)


class Something(Node):
    """A value that fits every input, right or not."""

    RETURN_TYPES = (Anything("*"),)

    def run(self, kind: "STRING"):  # noqa: F821
        return (VALUES[kind],)


class Report(Node):
    """Tells a latent's digest, and whether all of it is finite."""

    OUTPUT_NODE = True

    def run(self, latent: "LATENT"):  # noqa: F821
        samples = latent["samples"].float().cpu().contiguous()
        digest = hashlib.sha256(samples.numpy().tobytes()).hexdigest()
        return {"ui": {"digest": [digest], "finite": [bool(samples.isfinite().all())]}}


class Fault(ForOneRun, Node):
    """A model with which sampling does something else when it passes a place for the n-th time, from 0."""

    RETURN_TYPES = ("MODEL",)

    def run(self, model: "MODEL", place: "STRING", n: "INT", does: "STRING"):  # noqa: F821
        patched = model.clone()
        trap = Trap(n, DEEDS[does])
        if place in PLACES:
            PLACES[place](patched, trap)
        elif place in vars(WrappersMP).values():
            patched.add_wrapper(place, trap.around)
        elif place in vars(CallbacksMP).values():
            patched.add_callback(place, lambda *args, **kwargs: trap())
        else:
            patched.add_wrapper(WrappersMP.APPLY_MODEL, trap.in_module(place))
        return (patched,)


class Trap:
    """Does its deed the n-th time that it is called."""

    def __init__(self, n, deed):
        self.left, self.deed = n, deed

    def __call__(self):
        self.left -= 1
        if self.left == -1:
            self.deed()

    def around(self, inner, *args, **kwargs):
        self()
        return inner(*args, **kwargs)

    def in_module(self, name):
        """A wrapper of model calls, with a hook of its own on the diffusion model's module of this name."""

        def wrapper(executor, *args, **kwargs):
            module = executor.class_obj.diffusion_model.get_submodule(name)
            hook = module.register_forward_hook(lambda *_: self())
            try:
                return executor(*args, **kwargs)
            finally:
                hook.remove()

        return wrapper


class Deliberate(Exception):
    """What another node's error is to these tests."""


def run_out_of_memory():
    raise comfy.model_management.OOM_EXCEPTION("Allocation on device, on purpose")


def fail():
    raise Deliberate("on purpose")


def wait():
    """Tell the test that the place is reached, and go on when the prompt has been interrupted."""
    AT_THE_GATE.touch()
    until = time.monotonic() + PATIENCE
    while not comfy.model_management.processing_interrupted():
        if time.monotonic() > until:
            raise TimeoutError("nobody came")
        time.sleep(0.01)


def wait_and_stop():
    wait()
    comfy.model_management.throw_exception_if_processing_interrupted()


DEEDS = {"run out of memory": run_out_of_memory, "fail": fail, "wait": wait, "wait and stop": wait_and_stop}


def _attn2_patch(model, trap):
    model.set_model_attn2_patch(lambda q, k, v, options: trap.around(lambda: (q, k, v)))


def _attn2_replace(model, trap):
    def attention(q, k, v, options):
        return trap.around(optimized_attention, q, k, v, options["n_heads"], attn_precision=options["attn_precision"])

    model.set_model_attn2_replace(attention, "middle", 0)


def _override(model, trap):
    model.model_options["transformer_options"]["optimized_attention_override"] = trap.around


def _model_function_wrapper(model, trap):
    model.set_model_unet_function_wrapper(
        lambda apply, call: trap.around(apply, call["input"], call["timestep"], **call["c"])
    )


def _post_cfg(model, trap):
    model.set_model_sampler_post_cfg_function(lambda args: trap.around(lambda: args["denoised"]))


PLACES = {
    "attn2 patch": _attn2_patch,
    "attn2 replacement": _attn2_replace,
    "attention override": _override,
    "model function wrapper": _model_function_wrapper,
    "post cfg function": _post_cfg,
}


def changed(**values):
    """A change of a conditioning's values; None takes one out."""

    def change(conditioning):
        ((tokens, right),) = conditioning
        return [[tokens, {name: value for name, value in {**right, **values}.items() if value is not None}]]

    return change


def tokens(change):
    """A change of a conditioning's tokens, (1, tokens, width)."""
    return lambda conditioning: [[change(each), values] for each, values in conditioning]


WRONG = {
    "no": lambda conditioning: conditioning,
    "several entries": lambda conditioning: conditioning * 3,
    "a batch": tokens(lambda t: t.repeat(3, 1, 1)),
    "float16": tokens(torch.Tensor.half),
    "no entries": lambda conditioning: [],
    "no text": lambda conditioning: [[None, conditioning[0][1]]],
    "no values": lambda conditioning: [[conditioning[0][0], {}]],
    "no pooled output": changed(pooled_output=None),
    "narrow pooled output": changed(pooled_output=torch.randn(1, 3)),
    "no tokens": tokens(lambda t: t[:, :0]),
    "too wide": tokens(lambda t: torch.randn(1, 5, 768)),
    "too narrow": tokens(lambda t: t[..., : TEXT // 2]),
    "a dimension less": tokens(lambda t: t[0]),
    "a dimension more": tokens(lambda t: t[None]),
    "not a number": tokens(lambda t: torch.full_like(t, float("nan"))),
    "infinite": tokens(lambda t: torch.full_like(t, float("inf"))),
    "whole numbers": tokens(torch.Tensor.long),
    "text alone": lambda conditioning: [conditioning[0][:1]],
    "a list of numbers": lambda conditioning: [1, 2],
    "an object": lambda conditioning: {"positive": conditioning},
    "a string": lambda conditioning: "a circle",
    "nothing": lambda conditioning: None,
}

VALUES = {
    "nothing": None,
    "a number": 3,
    "not a number": float("nan"),
    "text": "a circle",
    "an empty list": [],
    "an object": {},
    "a tensor": torch.zeros(1, 4, 8, 8),
    "a latent without samples": {"samples": None},
}

NODE_CLASS_MAPPINGS = {
    node.__name__: node for node in (TinyModel, TinyText, TinyLatent, Something, Report, Fault)
}
