"""UNets: the text enters by cross-attention only, and the pooled vector is the positive's throughout."""
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, Upsample, timestep_embedding

from .equation import attention, guide


def forward(net, x, t, cond, negative, nag):
    emb = net.time_embed(timestep_embedding(t, net.model_channels).to(x))
    if net.num_classes is not None:
        emb = emb + net.label_emb(cond["y"])
    attend = CrossAttention(cond["c_crossattn"], negative, nag, cond.get("others"))
    skips = []
    h = x
    for i, layers in enumerate(net.input_blocks):
        h = run(layers, h, emb, attend.at("input", i))
        skips.append(h)
    h = run(net.middle_block, h, emb, attend.at("middle", 0))
    for i, layers in enumerate(net.output_blocks):
        h = torch.cat((h, skips.pop()), 1)
        h = run(layers, h, emb, attend.at("output", i), skips[-1].shape if skips else None)
    return net.out(h)


def run(layers, h, emb, attend, output_shape=None):
    for layer in layers:
        if isinstance(layer, ResBlock):
            h = layer(h, emb)
        elif isinstance(layer, SpatialTransformer):
            h = transformer(layer, h, attend)
        elif isinstance(layer, Upsample):
            h = layer(h, output_shape)
        else:
            h = layer(h)
    return h


def transformer(layer, image, attend):
    height, width = image.shape[-2:]
    flatten = lambda z: z.flatten(2).transpose(1, 2)
    unflatten = lambda z: z.transpose(1, 2).unflatten(2, (height, width))
    x = layer.norm(image)
    x = layer.proj_in(flatten(x)) if layer.use_linear else flatten(layer.proj_in(x))
    for i, block in enumerate(layer.transformer_blocks):
        n = block.norm1(x)
        self_attn = block.attn1
        x = x + self_attn.to_out(attention(self_attn.to_q(n), self_attn.to_k(n), self_attn.to_v(n), self_attn.heads))
        x = x + block.attn2.to_out(attend(block.attn2, block.norm2(x), i))
        x = x + block.ff(block.norm3(x))
    return image + (unflatten(layer.proj_out(x).contiguous()) if layer.use_linear else layer.proj_out(unflatten(x)))


class CrossAttention:
    """Cross-attention to a text, guided away from the negative.

    `others` stands for what other nodes do to it: an object with methods of its own for the text and the attention.
    """

    def __init__(self, text, negative, nag, others):
        self.text, self.negative, self.nag, self.others = text, negative, nag, others
        self.block = None

    def at(self, *block):
        self.block = block
        return self

    def __call__(self, attn, x, index):
        z_pos = self.branch(attn, x, self.text, index)
        if self.negative is None:
            return z_pos
        return guide(z_pos, self.branch(attn, x, self.negative.tokens, index), self.nag)

    def branch(self, attn, x, text, index):
        if self.others is None:
            return attention(attn.to_q(x), attn.to_k(text), attn.to_v(text), attn.heads)
        return self.others.attention(attn, x, text, (*self.block, index))
