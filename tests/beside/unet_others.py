"""UNets that other nodes have patched: the oracle of them, and where NAG can stand beside those nodes."""
from comfy.patcher_extension import WrappersMP

from oracle import sampling, unet
from oracle.equation import attention
from subject import conditioning_node, model_node


class Patches(unet.Others):
    """ComfyUI's patches in transformer_options, called where ComfyUI does, in float32, for one prompt at a time."""

    def __init__(self, options):
        self.patches, self.replacements = options.get("patches", {}), options.get("patches_replace", {})
        self.override = options.get("optimized_attention_override")
        self.options = {name: value for name, value in options.items() if not name.startswith("patches")}
        self.transformers = []  # the blocks that have one, as they come

    def self_attention(self, attn, x, block):
        return self.attention("attn1", attn, x, x, block)

    def cross_attention(self, attn, x, text, block):
        return self.attention("attn2", attn, x, text, block)

    def attention(self, name, attn, x, text, block):
        options = self.options_at(block, attn)
        value = text
        for patch in self.patches.get(f"{name}_patch", ()):
            x, text, value = called(patch, x, text, value, options)
        q, k, v = attn.to_q(x), attn.to_k(text), attn.to_v(value)
        replacements = self.replacements.get(name, {})
        replacement = replacements.get(block, replacements.get(block[:2]))
        if replacement is not None:
            return called(replacement, q, k, v, options)
        k, v = (t.reshape(q.shape[0], -1, t.shape[2]) for t in (k, v))  # a patch may have made tiles of the queries
        if self.override is not None:
            return self.override(plain, q, k, v, attn.heads, transformer_options=self.options)
        return attention(q, k, v, attn.heads)

    def patched(self, place, x, block):
        for patch in self.patches.get(place, ()):
            x = called(patch, x, self.options_at(block))
        return x

    def skipped(self, x, skip, block):
        for patch in self.patches.get("output_block_patch", ()):
            x, skip = called(patch, x, skip, self.options_at(block))
        return x, skip

    def options_at(self, block, attn=None):
        options = {**self.options, "block": block[:2]}
        if len(block) > 2:
            if block[:2] not in self.transformers:
                self.transformers.append(block[:2])
            options |= {"block_index": block[2], "transformer_index": len(self.transformers) - 1}
        if attn is not None:
            options |= {"n_heads": attn.heads, "dim_head": attn.dim_head, "attn_precision": None}
        return options


def called(patch, *inputs):
    *tensors, options = inputs
    result = patch(*(tensor.float() for tensor in tensors), options)
    return tuple(t.double() for t in result) if isinstance(result, tuple) else result.double()


def plain(q, k, v, heads, **_):
    return attention(q, k, v, heads)


class ExactUNet(sampling.ExactModel):
    def __call__(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **values
    ):
        others = Patches({**transformer_options, "original_shape": list(x.shape)})
        return super().__call__(executor, x, t, c_concat, c_crossattn, control, None, **values, others=others)


def exact_unet(patcher):
    """A clone of a ModelPatcher in whose place the oracle answers, and does what patches in the model say."""
    exact = patcher.clone()
    exact.add_wrapper_with_key(WrappersMP.APPLY_MODEL, sampling.KEY, ExactUNet(unet.forward))
    return exact


def model_first(nodes, patcher, positive, nag, change):
    return change(model_node(nodes, patcher, nag, nag_negative=nag.negative)), positive


def model_last(nodes, patcher, positive, nag, change):
    return model_node(nodes, change(patcher), nag, nag_negative=nag.negative), positive


def by_conditioning(nodes, patcher, positive, nag, change):
    return change(patcher), conditioning_node(nodes, positive, nag)


ORDERS = (model_first, model_last, by_conditioning)
"""Where NAG can stand beside a node, `change`, that changes the model: each gives the model and positive to sample."""
