"""SD3 and SD3.5: one image stream, and a text stream a prompt that is modulated by that prompt's pooled vector."""
from functools import partial

import torch

from .dit import Others, Stream
from .equation import attention, flipped, flips, guide


def forward(net, x, t, cond, negative, nag):
    time = net.t_embedder(t, dtype=x.dtype)
    vec = time + net.y_embedder(cond["y"])
    image = Stream(net.x_embedder(x) + net.cropped_pos_embed(x.shape[-2:]), vec)
    texts = [Stream(embed(net, cond["c_crossattn"]), vec)]
    if negative is not None:
        embedded = torch.cat([embed(net, entry) for entry in negative.entries], 1)
        texts.append(Stream(embedded, time + net.y_embedder(negative.pooled)))
    weighed = negative is not None and nag.places is not None
    bias = nag.places.joint_bias(image.x.shape[1]) if weighed else None
    others = cond.get("others") or Others()
    residuals = (cond.get("control") or {}).get("output", [])
    for i, block in enumerate(net.joint_blocks):
        run = partial(joint_block, block, texts, image, nag and nag.within("joint", i), bias)
        others.around(("double_block", i), texts, [image], run)
        if i < len(residuals) and residuals[i] is not None:
            image.x = image.x + residuals[i]
    out = net.unpatchify(net.final_layer(image.x, vec), hw=x.shape[-2:])
    return out[..., : x.shape[-2], : x.shape[-1]]


def embed(net, tokens):
    if net.context_processor is not None:
        tokens = net.context_processor(tokens.clone())  # it works in place
    return net.context_embedder(tokens)


def joint_block(block, texts, image, nag, bias=None):
    """bias: on the scores of the negative's text and image."""
    of_image = Half(block.x_block, image)
    of_texts = [Half(block.context_block, text) for text in texts]
    of_each = [(None, None)] * len(texts)
    if bias is not None:
        n_text = texts[1].x.shape[1]
        of_each[1] = bias.split((n_text, bias.shape[2] - n_text), 2)
    z = [attend(of_image, [text, of_image], on_image) for text, (_, on_image) in zip(of_texts, of_each)]
    if len(z) > 1 and flips(nag):
        known = [torch.cat((part(of_texts[0]), part(of_image)), 1) for part in (lambda h: h.k, lambda h: h.v)]
        masks = None, None if bias is None else of_each[1][1][..., :n_text]
        z = flipped(of_image.q, known, (of_texts[1].k, of_texts[1].v), of_image.heads, nag, masks)
    else:
        z = z[0] if len(z) == 1 else guide(*z, nag)
    if not block.context_block.pre_only:
        for text, half, (on_text, _) in zip(texts, of_texts, of_each):
            text.x = half.finish(attend(half, [half, of_image], on_text))
    image.x = of_image.finish(z)


def attend(queries, keys, mask=None):
    k, v = (torch.cat(parts, 1) for parts in zip(*((half.k, half.v) for half in keys)))
    return attention(queries.q, k, v, queries.heads, mask)


class Half:
    """The image's or a text's half of a joint block, up to the attention and from there on."""

    def __init__(self, block, stream):
        self.block, self.x, self.heads = block, stream.x, block.attn.num_heads
        size = block.attn.qkv.in_features
        self.modulation = [m.unsqueeze(1) for m in block.adaLN_modulation(stream.vec).split(size, -1)]
        shift, scale = self.modulation[:2]
        self.q, self.k, self.v = self.qkv(block.attn, shift, scale)

    def qkv(self, attn, shift, scale):
        q, k, v = attn.qkv(self.block.norm1(self.x) * (1 + scale) + shift).chunk(3, -1)
        normed = lambda norm, z: norm(z.unflatten(-1, (self.heads, -1))).flatten(2)
        return normed(attn.ln_q, q), normed(attn.ln_k, k), v

    def finish(self, z):
        block, x = self.block, self.x
        gate, shift_mlp, scale_mlp, gate_mlp = self.modulation[2:6]
        x = x + gate * block.attn.proj(z)
        if block.x_block_self_attn:
            shift2, scale2, gate2 = self.modulation[6:]
            x = x + gate2 * block.attn2.proj(attention(*self.qkv(block.attn2, shift2, scale2), self.heads))
        return x + gate_mlp * block.mlp(block.norm2(x) * (1 + scale_mlp) + shift_mlp)
