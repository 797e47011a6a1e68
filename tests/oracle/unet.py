"""UNets: the text enters by cross-attention only, and the pooled vector is the positive's throughout."""
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, Upsample, timestep_embedding

from .equation import attention, flipped, flips, guide


class Others:
    """What other nodes do to a UNet for one prompt at a time; by itself nothing.

    `block` says where: ("input", "middle" or "output", number of the block), and in a transformer its index as well.
    """

    def self_attention(self, attn, x, block):
        return attention(attn.to_q(x), attn.to_k(x), attn.to_v(x), attn.heads)

    def cross_attention(self, attn, x, text, block):
        return attention(attn.to_q(x), attn.to_k(text), attn.to_v(text), attn.heads)

    def patched(self, place, x, block):
        """The features after one of ComfyUI's places for patches, by its name."""
        return x

    def skipped(self, x, skip, block):
        """The features that enter an output block, and those that come from the input block of its level."""
        return x, skip


def forward(net, x, t, cond, negative, nag):
    emb = net.time_embed(timestep_embedding(t, net.model_channels).to(x))
    if net.num_classes is not None:
        emb = emb + net.label_emb(cond["y"])
    others = cond.get("others") or Others()
    attend = CrossAttention(cond["c_crossattn"], negative, nag, others)
    control = Control(cond.get("control"))
    skips = []
    h = x
    for i, layers in enumerate(net.input_blocks):
        block = ("input", i)
        h = control.added("input", run(layers, h, emb, attend, block))
        h = others.patched("input_block_patch", h, block)
        skips.append(h)
        h = others.patched("input_block_patch_after_skip", h, block)
    h = control.added("middle", run(net.middle_block, h, emb, attend, ("middle", 0)))
    for i, layers in enumerate(net.output_blocks):
        block = ("output", i)
        h = torch.cat(others.skipped(h, control.added("output", skips.pop()), block), 1)
        h = run(layers, h, emb, attend, block, skips[-1].shape if skips else None)
    return net.out(h)


class Control:
    """A ControlNet's residuals, {place: [one for each block]}; each place's last is for the first block."""

    def __init__(self, residuals):
        self.residuals = {place: list(values) for place, values in (residuals or {}).items()}

    def added(self, place, h):
        residuals = self.residuals.get(place)
        residual = residuals.pop() if residuals else None
        return h if residual is None else h + residual


def run(layers, h, emb, attend, block, output_shape=None):
    for layer in layers:
        if isinstance(layer, ResBlock):
            h = layer(h, emb)
        elif isinstance(layer, SpatialTransformer):
            h = transformer(layer, h, attend, block)
        elif isinstance(layer, Upsample):
            h = layer(h, output_shape)
        else:
            h = layer(h)
    return h


def transformer(layer, image, attend, block):
    height, width = image.shape[-2:]
    flatten = lambda z: z.flatten(2).transpose(1, 2)
    unflatten = lambda z: z.transpose(1, 2).unflatten(2, (height, width))
    others = attend.others
    x = layer.norm(image)
    x = layer.proj_in(flatten(x)) if layer.use_linear else flatten(layer.proj_in(x))
    for i, part in enumerate(layer.transformer_blocks):
        at = (*block, i)
        z = part.attn1.to_out(others.self_attention(part.attn1, part.norm1(x), at))
        x = others.patched("middle_patch", x + others.patched("attn1_output_patch", z, at), at)
        z = part.attn2.to_out(attend(part.attn2, part.norm2(x), at))
        x = x + others.patched("attn2_output_patch", z, at)
        x = x + part.ff(part.norm3(x))
    return image + (unflatten(layer.proj_out(x).contiguous()) if layer.use_linear else layer.proj_out(unflatten(x)))


class CrossAttention:
    """Cross-attention to a text, guided away from the negative."""

    def __init__(self, text, negative, nag, others):
        self.text, self.negative, self.nag, self.others = text, negative, nag, others

    def __call__(self, attn, x, block):
        z_pos = self.others.cross_attention(attn, x, self.text, block)
        if self.negative is None:
            return z_pos
        nag, text = self.nag.within(*block[:2]), self.negative.tokens
        bias = None if self.nag.places is None else self.nag.places.bias(x.shape[1])
        if flips(nag):
            keys = [(attn.to_k(text), attn.to_v(text)) for text in (self.text, text)]
            return flipped(attn.to_q(x), *keys, attn.heads, nag, (None, bias))
        if bias is None:
            z_neg = self.others.cross_attention(attn, x, text, block)
        else:
            z_neg = attention(attn.to_q(x), attn.to_k(text), attn.to_v(text), attn.heads, bias)
        return guide(z_pos, z_neg, nag)
