"""Wan 2.1 and 2.2: text-to-video, image-to-video, VACE and the other models with Wan's cross-attention."""
from contextlib import contextmanager

from ..attention import CrossAttention
from ..settings import Strength
from .adapter import Adapter
from .hooks import hooked


class Wan(Adapter):
    """The text only enters in the blocks' `cross_attn`; there the negative's tokens are further keys."""

    name = "Wan"
    text_encoder = "UMT5-XXL (CLIPLoader, type wan)"

    def recommended(self, model):
        return Strength(nag_scale=11.0, nag_tau=2.5, nag_alpha=0.25)

    def text_width(self, model):
        return model.text_embedding[0].in_features

    @contextmanager
    def guided(self, model, call):
        n_positive, n_negative = call.context.shape[1], call.negative.shape[1]
        attention = CrossAttention(call.settings, call.transformer_options, n_positive, n_negative)
        with hooked(_hooks(model, attention)):
            yield call.joined_text(), attention.install(call.transformer_options)


def _hooks(model, attention):
    for name, module in model.named_modules():
        if name.endswith(".cross_attn"):
            yield module.register_forward_pre_hook(attention.enter, with_kwargs=True)
            yield module.register_forward_hook(attention.leave)
