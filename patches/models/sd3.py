"""Stable Diffusion 3 and 3.5: medium with its second attention, large, and their turbo kin."""
import math
from contextlib import ExitStack, contextmanager

import torch

from ..attention import JointAttention
from ..settings import Strength
from .adapter import Adapter
from .hooks import PooledShift, hooked


class SD3(Adapter):
    """The text has a stream of its own, `context_block`, that is modulated by the pooled vector as a whole.

    That stream runs once per prompt, each with its own modulation; the image stream is shared.
    """

    name = "Stable Diffusion 3 and 3.5"
    text_encoder = "CLIP-L, CLIP-G and T5-XXL (TripleCLIPLoader)"

    def recommended(self, model):
        return Strength(nag_scale=5.0, nag_tau=2.5, nag_alpha=0.125)

    def text_width(self, model):
        return model.context_embedder.in_features

    def pooled_width(self, model):
        return model.y_embedder.mlp[0].in_features

    @contextmanager
    def guided(self, model, call):
        n_positive, n_negative = call.context.shape[1], call.negative.shape[1]
        n_image = math.prod(math.ceil(size / model.patch_size) for size in call.x.shape[-2:])
        attention = JointAttention(call.settings, call.transformer_options, n_positive, n_negative, n_image)
        shift = PooledShift(call.pooled)
        with ExitStack() as stack:
            stack.enter_context(hooked([model.y_embedder.register_forward_hook(shift)]))
            if model.context_processor is not None:
                stack.enter_context(_prompts_apart(model.context_processor, n_positive))
            for block in model.joint_blocks:
                stack.enter_context(_run_per_prompt(block.context_block, n_positive, shift))
            yield call.joined_text(), attention.install(call.transformer_options)


@contextmanager
def _prompts_apart(module, n_positive):
    """Let a module that mixes tokens see one prompt at a time."""
    negative = []

    def keep_positive(module, args):
        negative.append(args[0][:, n_positive:])
        return (args[0][:, :n_positive],)

    def add_negative(module, args, out):
        return torch.cat((out, module.forward(negative.pop())), 1)

    with hooked([module.register_forward_pre_hook(keep_positive), module.register_forward_hook(add_negative)]):
        yield


@contextmanager
def _run_per_prompt(block, n_positive, shift):
    """Run both halves of a text block once per prompt. They are methods, which no PyTorch hook reaches."""
    pre_attention, post_attention = block.pre_attention, block.post_attention

    def pre(tokens, c):
        qkv, rest = pre_attention(tokens[:, :n_positive], c)
        qkv_negative, rest_negative = pre_attention(tokens[:, n_positive:], c + shift.value)
        return tuple(torch.cat(pair, 1) for pair in zip(qkv, qkv_negative, strict=True)), (rest, rest_negative)

    def post(attention, rest, rest_negative):
        positive = post_attention(attention[:, :n_positive], *rest)
        return torch.cat((positive, post_attention(attention[:, n_positive:], *rest_negative)), 1)

    with _instance_attributes(block, pre_attention=pre, post_attention=post):
        yield


@contextmanager
def _instance_attributes(target, **attributes):
    """Set attributes on an object for a while, over those of its class."""
    earlier = {name: vars(target)[name] for name in attributes if name in vars(target)}
    try:
        for name, value in attributes.items():
            setattr(target, name, value)
        yield
    finally:
        for name in attributes:
            delattr(target, name)
        for name, value in earlier.items():
            setattr(target, name, value)
