"""Wan: the text enters by cross-attention only; image-to-video models also attend to an image embedding, unguided."""
from functools import partial

from comfy.ldm.common_dit import pad_to_patch_size
from comfy.ldm.wan.model import sinusoidal_embedding_1d
from torch.nn.functional import gelu

from .dit import Others, Stream
from .equation import attention, flipped, flips, grid, guide, rotate

ROPE_THETA = 10000


def forward(net, x, t, cond, negative, nag):
    frames, height, width = x.shape[-3:]
    patched = net.patch_embedding(pad_to_patch_size(x, net.patch_size))
    sizes = patched.shape[2:]
    video = Stream(patched.flatten(2).transpose(1, 2))
    time = net.time_embedding(sinusoidal_embedding_1d(net.freq_dim, t).to(x))
    modulation = net.time_projection(time).unflatten(-1, (6, net.dim))
    texts = [net.text_embedding(cond["c_crossattn"])]
    if negative is not None:
        texts.append(net.text_embedding(negative.tokens))
    picture = None
    if "clip_fea" in cond and net.img_emb is not None:
        picture = net.img_emb(cond["clip_fea"])
    def run(label, layer, stream, texts):
        block(layer, stream, modulation, grid(*sizes), texts, picture, nag and nag.within(*label))

    control = Vace(net, cond, video.x, run) if "vace_context" in cond else None
    others = cond.get("others") or Others()
    for i, layer in enumerate(net.blocks):
        prompts = [Stream(text) for text in texts]
        others.around(("double_block", i), prompts, [video], partial(run, ("blocks", i), layer, video, prompts))
        if control is not None:
            control.add_to(video, i, prompts)
    shift, scale = (net.head.modulation + time[:, None]).unsqueeze(2).unbind(1)
    out = net.head.head(net.head.norm(video.x) * (1 + scale) + shift)
    return net.unpatchify(out, sizes)[:, :, :frames, :height, :width]


def block(layer, stream, modulation, positions, texts, picture, nag):
    shift, scale, gate, shift_ffn, scale_ffn, gate_ffn = (layer.modulation + modulation).unsqueeze(2).unbind(1)
    video = stream.x
    video = video + gate * self_attention(layer.self_attn, layer.norm1(video) * (1 + scale) + shift, positions)
    video = video + cross_attention(layer.cross_attn, layer.norm3(video), texts, picture, nag)
    hidden = gelu(layer.ffn[0](layer.norm2(video) * (1 + scale_ffn) + shift_ffn), approximate="tanh")
    stream.x = video + gate_ffn * layer.ffn[2](hidden)


def self_attention(layer, x, positions):
    share = layer.head_dim // 6
    axes = (layer.head_dim - 4 * share, 2 * share, 2 * share)  # frames, rows, columns
    turn = lambda z: rotate(z, positions, axes, ROPE_THETA, layer.num_heads)
    q, k = turn(layer.norm_q(layer.q(x))), turn(layer.norm_k(layer.k(x)))
    return layer.o(attention(q, k, layer.v(x), layer.num_heads))


def cross_attention(layer, x, texts, picture, nag):
    q = layer.norm_q(layer.q(x))
    masks = [None] + [None if nag is None or nag.places is None else nag.places.bias(x.shape[1]) for _ in texts[1:]]
    keys = [(layer.norm_k(layer.k(text.x)), layer.v(text.x)) for text in texts]
    z = [attention(q, *each, layer.num_heads, mask) for each, mask in zip(keys, masks)]
    if len(z) > 1 and flips(nag):
        z = flipped(q, *keys, layer.num_heads, nag, masks)
    else:
        z = z[0] if len(z) == 1 else guide(*z, nag)
    if picture is not None:
        k, v = layer.norm_k_img(layer.k_img(picture)), layer.v_img(picture)
        z = z + attention(q, k, v, layer.num_heads)
    return layer.o(z)


class Vace:
    """VACE's side branches: blocks over each control video, whose outcome is added to the main ones."""

    def __init__(self, net, cond, tokens, run):
        self.net, self.strengths, self.tokens, self.run = net, cond["vace_strength"], tokens, run
        self.videos = [
            Stream(net.vace_patch_embedding(video).flatten(2).transpose(1, 2))
            for video in cond["vace_context"].unbind(1)
        ]

    def add_to(self, video, index, texts):
        number = self.net.vace_layers_mapping.get(index)
        if number is None:
            return
        layer = self.net.vace_blocks[number]
        for control, strength in zip(self.videos, self.strengths):
            if number == 0:
                control.x = layer.before_proj(control.x) + self.tokens
            self.run(("vace", number), layer, control, texts)
            video.x = video.x + layer.after_proj(control.x) * strength
