"""UNets that other nodes have patched, and the oracle of them."""
import comfy.ldm.modules.attention as host
import torch

from oracle import unet
from oracle.equation import attention
from oracle.sampling import exact_model


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


def exact_unet(patcher):
    """A clone of a ModelPatcher in whose place the oracle answers, and does what patches in the model say."""
    return exact_model(unet.forward, patcher, Patches)


BLOCKS = [("input", 1), ("middle", 0), ("output", 1)]  # one of each kind


class ImagePrompt:
    """What IPAdapter does: in some blocks, attention to an image as well, each kind of row to its own."""

    def __init__(self, blocks, width):
        generator = torch.Generator().manual_seed(5)
        self.blocks = blocks
        self.images = torch.randn(2, 1, 3, width, generator=generator)  # of positive and negative rows

    def replace(self, q, k, v, options):
        """The patch that ComfyUI calls."""
        kinds = options["cond_or_uncond"]
        rows = q.shape[0] // len(kinds)
        image = torch.cat([self.images[kind].expand(rows, -1, -1) for kind in kinds])
        assert image.shape[0] == q.shape[0], "the rows are not those that the options speak of"
        assert len(options["uuids"]) == len(kinds)
        attend = lambda k, v: host.optimized_attention(q, k, v, options["n_heads"])
        return attend(k, v) + 0.5 * attend(image[..., : q.shape[-1]], image[..., -q.shape[-1] :])

    def of_kind(self, kind):
        """The same for the oracle."""
        return ImageOfKind(set(self.blocks), self.images[kind].double())


class ImageOfKind(unet.Others):
    def __init__(self, blocks, image):
        self.blocks, self.image = blocks, image

    def cross_attention(self, attn, x, text, block):
        z = super().cross_attention(attn, x, text, block)
        if not {block, block[:2]} & self.blocks:
            return z
        q, image = attn.to_q(x), self.image.expand(x.shape[0], -1, -1)
        return z + 0.5 * attention(q, image[..., : q.shape[-1]], image[..., -q.shape[-1] :], attn.heads)
