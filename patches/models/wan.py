"""Wan 2.1 and 2.2: text-to-video, image-to-video, VACE and the other models with Wan's cross-attention."""
from contextlib import contextmanager

from ..attention import CrossAttention
from ..settings import Strength
from .adapter import Adapter
from .hooks import hooked

REPLACED = (
    "Another node has put its own forward() in the place of {name}'s, as other NAG nodes for Wan do, so that NAG can't "
    "tell what becomes of the negative. Take that node out, or this NAG."
)


class Wan(Adapter):
    """The text only enters in the blocks' `cross_attn`; there the negative's tokens are further keys.

    The override is installed for that module alone, since self-attention can have as many tokens as the text.
    """

    name = "Wan"
    text_encoder = "UMT5-XXL (CLIPLoader, type wan)"
    needed = ("comfy.ldm.wan.model:WanT2VCrossAttention.forward(transformer_options)",)
    parts = ("cross_attn", "text_embedding")

    def recommended(self, model):
        return Strength(nag_scale=11.0, nag_tau=2.5, nag_alpha=0.25)

    def text_width(self, model):
        return model.text_embedding[0].in_features

    @contextmanager
    def guided(self, model, call):
        n_positive, n_negative = call.context.shape[1], call.negative.shape[1]

        def enter(module, args, kwargs):
            options = kwargs.get("transformer_options") or {}
            n_image = kwargs.get("context_img_len") if hasattr(module, "k_img") else None
            override = CrossAttention(call.equation, options, n_positive, n_negative, n_image)
            return args, {**kwargs, "transformer_options": override.install(options)}

        blocks = {name: module for name, module in model.named_modules() if name.endswith(".cross_attn")}
        for name, block in blocks.items():
            if getattr(block.forward, "__func__", None) is not type(block).forward:
                raise ValueError(REPLACED.format(name=name))
        with hooked(block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks.values()):
            yield call.joined_text(), call.transformer_options
