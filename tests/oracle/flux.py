"""Flux.1: double blocks with a stream for the image and one for each prompt, then single blocks over both.

`shared`: one image stream everywhere, modulated by the positive's vector.
`separate`: in single blocks, as the authors have it, the second prompt has an image stream of its own, modulated by
its own vector; both go on from the guided features, and the first one is the result. Where NAG does not act in a block
there is the first one alone, and the second begins anew behind it.
"""
from functools import partial

import torch
from comfy.ldm.common_dit import pad_to_patch_size
from comfy.ldm.flux.layers import timestep_embedding
from torch.nn.functional import silu

from .dit import Others, Stream
from .equation import attention, flipped, flips, grid, guide, rotate


def forward(net, x, t, cond, negative, nag):
    height, width = x.shape[-2:]
    pictures = [x, *cond.get("ref_latents", [])]
    image = net.img_in(torch.cat([patches(net, picture) for picture in pictures], 1))
    places = [(0, 0, 0), *reference_places(x, cond)]
    rope = Rope(net, torch.cat([positions(net, *each) for each in zip(pictures, places)]))
    others = cond.get("others") or Others()
    base = net.time_in(timestep_embedding(t, 256).to(x))
    if net.params.guidance_embed and "guidance" in cond:
        base = base + net.guidance_in(timestep_embedding(cond["guidance"].float(), 256).to(x))
    text = others.entered(net.txt_in(cond["c_crossattn"]), image)
    texts = [Stream(text, base + net.vector_in(cond["y"]))]
    if negative is not None:
        texts.append(Stream(net.txt_in(negative.tokens), base + net.vector_in(negative.pooled)))
    image = Stream(image, texts[0].vec)
    masks = attention_masks(cond.get("attention_mask"), texts)
    if negative is not None and nag.places is not None:
        bias = nag.places.joint_bias(image.x.shape[1])
        masks[1] = bias if masks[1] is None else masks[1] + bias
    control = cond.get("control") or {}
    for i, block in enumerate(net.double_blocks):
        run = partial(double_block, block, texts, image, rope, masks, nag and nag.within("double", i))
        others.around(("double_block", i), texts, [image], run)
        add_control(control.get("input", []), i, [image])
    images = [image]
    for i, block in enumerate(net.single_blocks):
        def run(block=block, i=i):
            acting = nag and nag.within("single", i)
            if not acting:
                del images[1:]
            elif len(images) < len(texts) and nag.image_stream == "separate":
                images.append(Stream(image.x, texts[1].vec))
            single_block(block, texts, images, rope, masks, acting)

        others.around(("single_block", i), texts, images, run)
        add_control(control.get("output", []), i, images)
    picture = net.final_layer(image.x, image.vec)[:, : patches(net, x).shape[1]]
    return unpatched(net, picture, height, width)


def modulation(stream, layer):
    return layer.lin(silu(stream.vec))[:, None].chunk(layer.multiplier, -1)


class Rope:
    """Turns the image's queries and keys; text tokens all stand at position 0."""

    def __init__(self, net, positions):
        self.positions, self.axes, self.theta = positions, net.params.axes_dim, net.params.theta

    def __call__(self, z, heads):
        return rotate(z, self.positions, self.axes, self.theta, heads)


def double_block(block, texts, image, rope, masks, nag):
    heads = block.num_heads

    def start(stream, mod, norm, attn):
        shift, scale, *rest = modulation(stream, mod)
        qkv = attn.qkv(norm(stream.x) * (1 + scale) + shift)
        return normed(qkv, attn.norm, heads), rest

    def finish(stream, z, rest, attn, norm, mlp):
        gate, shift, scale, gate_mlp = rest
        stream.x = stream.x + gate * attn.proj(z)
        stream.x = stream.x + gate_mlp * mlp(norm(stream.x) * (1 + scale) + shift)

    (q, k, v), rest = start(image, block.img_mod, block.img_norm1, block.img_attn)
    of_image = rope(q, heads), rope(k, heads), v
    of_texts = [start(text, block.txt_mod, block.txt_norm1, block.txt_attn) for text in texts]
    attended = [branch(of_text, of_image, heads, mask) for (of_text, _), mask in zip(of_texts, masks)]
    z = guided([z for _, z in attended], nag, [of_text for of_text, _ in of_texts], of_image, heads, masks)
    finish(image, z, rest, block.img_attn, block.img_norm2, block.img_mlp)
    for text, (z, _), (_, text_rest) in zip(texts, attended, of_texts):
        finish(text, z, text_rest, block.txt_attn, block.txt_norm2, block.txt_mlp)


def single_block(block, texts, images, rope, masks, nag):
    heads, size = block.num_heads, block.hidden_size

    def start(stream):
        shift, scale, gate = modulation(stream, block.modulation)
        qkv, mlp = block.linear1(block.pre_norm(stream.x) * (1 + scale) + shift).tensor_split((3 * size,), -1)
        return normed(qkv, block.norm, heads), block.mlp_act(mlp), gate

    def finish(stream, z, mlp, gate):
        stream.x = stream.x + gate * block.linear2(torch.cat((z, mlp), -1))

    started = []
    for image in images:
        (q, k, v), mlp, gate = start(image)
        started.append(((rope(q, heads), rope(k, heads), v), mlp, gate))
    of_texts = [start(text) for text in texts]
    # With one image stream, both prompts meet it; with two, each meets its own.
    of_images = started * (len(texts) // len(images))
    attended = [
        branch(of_text, of_image, heads, mask)
        for (of_text, *_), (of_image, *_), mask in zip(of_texts, of_images, masks)
    ]
    z = guided([z for _, z in attended], nag, [of_text for of_text, *_ in of_texts], started[0][0], heads, masks)
    for image, (_, mlp, gate) in zip(images, started):
        finish(image, z, mlp, gate)
    for text, (z_text, _), (_, mlp, gate) in zip(texts, attended, of_texts):
        finish(text, z_text, mlp, gate)


def normed(qkv, norm, heads):
    q, k, v = qkv.chunk(3, -1)
    per_head = lambda layer, z: layer(z.unflatten(-1, (heads, -1))).flatten(2)
    return per_head(norm.query_norm, q), per_head(norm.key_norm, k), v


def branch(of_text, of_image, heads, mask):
    """Attention over one prompt and the image: (the text's features, the image's)."""
    q, k, v = (torch.cat(parts, 1) for parts in zip(of_text, of_image))
    return attention(q, k, v, heads, mask).tensor_split((of_text[0].shape[1],), 1)


def guided(z, nag, of_texts, of_image, heads, masks):
    if len(z) == 1:
        return z[0]
    if not flips(nag):
        return guide(*z, nag)
    (_, *of_positive), (_, *of_negative) = of_texts
    q, *image = of_image
    known = [torch.cat(parts, 1) for parts in zip(of_positive, image)]
    n_positive, n_negative = of_positive[0].shape[1], of_negative[0].shape[1]
    of_positive_image = None if masks[0] is None else masks[0][..., n_positive:, :]
    of_image = None if masks[1] is None else masks[1][..., n_negative:, :n_negative]
    masks = of_positive_image, of_image
    return flipped(q, known, of_negative, heads, nag, masks)


def attention_masks(mask, texts):
    """The model's mask for the positive; between image tokens it holds for the negative too, whose text has none."""
    if mask is None:
        return [None] * len(texts)
    masks = [mask[:, None]]
    n_positive = texts[0].x.shape[1]
    for text in texts[1:]:
        n = text.x.shape[1]
        size = n + mask.shape[-1] - n_positive
        masks.append(mask.new_zeros(mask.shape[0], 1, size, size))
        masks[-1][..., n:, n:] = mask[:, None, n_positive:, n_positive:]
    return masks


def add_control(residuals, index, images):
    if index < len(residuals) and residuals[index] is not None:
        for image in images:
            image.x = image.x.clone()
            image.x[:, : residuals[index].shape[1]] += residuals[index]


def patches(net, picture):
    size = net.patch_size
    picture = pad_to_patch_size(picture, (size, size))
    rows = picture.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # b c h ph w pw
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatched(net, tokens, height, width):
    size = net.patch_size
    rows, columns = -(-height // size), -(-width // size)
    picture = tokens.unflatten(1, (rows, columns)).unflatten(3, (-1, size, size))  # b h w c ph pw
    return picture.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)[..., :height, :width]


def positions(net, picture, place):
    """(tokens, 3): of a picture's patches, shifted by `place`, which is (index, rows, columns)."""
    size = net.patch_size
    cells = grid(-(-picture.shape[-2] // size), -(-picture.shape[-1] // size))
    return torch.cat((torch.zeros_like(cells[:, :1]), cells), 1) + torch.tensor(place, dtype=cells.dtype)


def reference_places(x, cond):
    """Where Kontext's reference pictures stand, in patches of 2, by ComfyUI's three methods."""
    method = cond.get("ref_latents_method", "offset")
    rows = columns = 0  # latent pixels that are taken
    for number, reference in enumerate(cond.get("ref_latents", []), 1):
        height, width = reference.shape[-2:]
        if method == "index":
            place = (number, 0, 0)
        elif method == "uxo":
            place = (0, even(x.shape[-2]) + rows, even(x.shape[-1]) + columns)
            rows, columns = rows + height, columns + width
        else:  # below or beside the earlier ones, whichever keeps the whole smaller
            beside = height + rows > width + columns
            place = (1, 0, columns) if beside else (1, rows, 0)
            rows, columns = max(rows, height + place[1]), max(columns, width + place[2])
        yield place[0], (place[1] + 1) // 2, (place[2] + 1) // 2


def even(size):
    return size + size % 2
