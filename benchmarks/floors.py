"""How many floating-point operations a step takes: counted on the meta device, and the least that NAG adds, by formula.

The negative's T tokens go through some of the model's modules, with 2 m n k operations for a product of matrices. Where
the text meets the image's N tokens, of width d, a module adds at the least

    joint    2 w T            w weights by which each token of the text is multiplied, as 12 d^2 in Flux's blocks
           + 4 d T (T + N)    the negative's attention to itself and the image
           + 4 d N T          the image's attention to the negative; to the image it has attended once
    cross    2 w T            w is that of the negative's keys and values
           + 4 d N T          the image's attention to the negative
    text     2 w T + 4 d T T  modules for the text alone, d = 0 where it does not attend

so all of them 2 w T + 4 d T (a T + b N). The equation itself, the merge, norms and modulations are no products of
matrices and count nothing, here as in PyTorch's counter. A rehearsal also embeds the image and the time, and an image
that it refines it makes small: that is no part of the floor.
"""
import itertools
import math
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import comfy.ldm.hidream.model
import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import torch
from torch.utils import flop_counter

from .models import LYRICS, MT5, build

META = torch.device("meta")


@dataclass(frozen=True)
class Modules:
    """Equal modules that the negative's text goes through.

    Args:
        count: how many.
        weights: those by which each of its tokens is multiplied.
        width: of all heads of the queries; 0 without attention.
        meets: how many of its own tokens and of the image's take part in attention with each.
        image: how many tokens that has.
        tokens: how many the negative has here, where it is not as many as its text embedding.
    """

    count: int
    weights: int
    width: int = 0
    meets: tuple[int, int] = (0, 0)
    image: int = 0
    tokens: int | None = None

    def operations(self, text):
        (own, of_image), image, text = self.meets, self.image, text if self.tokens is None else self.tokens
        return self.count * (2 * self.weights * text + 4 * self.width * text * (own * text + of_image * image))


def joint(count, weights, width, image, tokens=None):
    return Modules(count, weights, width, (1, 2), image, tokens)


def cross(count, weights, width, image, tokens=None):
    return Modules(count, weights, width, (0, 1), image, tokens)


def of_text(count, weights, width=0, tokens=None):
    return Modules(count, weights, width, (1, 0), tokens=tokens)


def _gated(width, hidden, multiple=256):
    """The weights of an MLP whose first layer's output is gated by another's."""
    return 3 * width * multiple * math.ceil(hidden / multiple)


def _unet(c, n, size):
    return [cross(blocks, 2 * c["context_dim"] * d, d, image) for blocks, d, image in _unet_levels(size)]


def _sd3(c, n, size):
    """The last block only takes the text's queries, keys and values."""
    d, blocks = 64 * c["depth"], c.get("num_blocks") or c["depth"]
    embedding = c["context_embedder_config"]["params"]["in_features"] * d
    return [joint(blocks - 1, 12 * d * d, d, n), joint(1, 3 * d * d, d, n), of_text(1, embedding)]


def _flux(c, n, size):
    d, blocks = c["hidden_size"], c["depth"] + c["depth_single_blocks"]
    gated = bool(c.get("mlp_silu_act"))  # then the first layer of an MLP makes twice the width
    weights = 4 * d * d + round((2 + gated) * c["mlp_ratio"] * d * d)
    return [joint(blocks, weights, d, n), of_text(1, c["context_in_dim"] * d)]


def _z_image(c, n, size):
    d, refiners = c["dim"], 2
    mlp = 256 * math.ceil(int(c["ffn_dim_multiplier"] * d) / 256)
    weights = 4 * d * d + 3 * d * mlp
    return [joint(c["n_layers"], weights, d, n), of_text(refiners, weights, d), of_text(1, c["cap_feat_dim"] * d)]


def _qwen_image(c, n, size):
    d = c["num_attention_heads"] * c["attention_head_dim"]
    return [joint(c["num_layers"], 12 * d * d, d, n), of_text(1, c["joint_attention_dim"] * d)]


def _krea2(c, n, size):
    """The text comes as a stack of layers. Two modules mix the layers of a token, two the tokens."""
    d, text, layers = c["features"], c["txtdim"], c["txtlayers"]
    gated = lambda width: 3 * width * 128 * math.ceil(4 * int(2 * width / 3) / 128)
    weights = (3 * c["heads"] + 2 * c["kvheads"]) * d * d // c["heads"] + gated(d)
    of_layers = 5 * text * text + gated(text)
    fusion = [of_text(2, layers * (of_layers + 2 * text * layers)), of_text(2, of_layers, text)]
    return [joint(c["layers"], weights, d, n), *fusion, of_text(1, layers + text * d + d * d)]


def _wan(c, n, size):
    d = c["dim"]
    return [cross(c["num_layers"], 2 * d * d, d, n), of_text(1, (c["text_dim"] + d) * d)]


def _ltx2(c, n, size):
    """Picture and sound."""
    widths = (c["num_attention_heads"] * c["attention_head_dim"], n), (
        c["audio_num_attention_heads"] * c["audio_attention_head_dim"], size.sound[1])
    blocks = [cross(c["num_layers"], 2 * d * d, d, image) for d, image in widths]
    return blocks + [of_text(1, (c["caption_channels"] + d) * d) for d, _ in widths]


def _kandinsky5(c, n, size):
    d, ff = c["model_dim"], c["ff_dim"]
    of_blocks = of_text(c["num_text_blocks"], 4 * d * d + 2 * d * ff, d)
    return [cross(c["num_visual_blocks"], 2 * d * d, d, n), of_blocks, of_text(1, 3584 * d)]


def _cosmos(c, n, size):
    d = c["model_channels"]
    return [cross(c["num_blocks"], 2 * c["crossattn_emb_channels"] * d, d, n)]


def _hunyuan(c, n, size):
    d = c["hidden_size"]
    return [*_flux(c, n, size), of_text(2, 12 * d * d, d)]


def _hidream(c, n, size):
    """T5's tokens, and Llama's of the last layer and of the block's; each block's goes through a projection."""
    d, blocks = c["num_attention_heads"] * c["attention_head_dim"], c["num_layers"] + c["num_single_layers"]
    mlp = lambda hidden: _gated(d, int(2 * hidden / 3))
    experts = mlp(2 * d) + c["num_activated_experts"] * mlp(4 * d) + c["num_routed_experts"] * d
    of_blocks = (c["num_layers"], mlp(4 * d)), (c["num_single_layers"], experts)
    meeting = [joint(count, 4 * d * d + weights, d, n, 3 * size.text) for count, weights in of_blocks]
    return [*meeting, of_text(blocks + 1, c["caption_channels"][0] * d)]


def _mochi(c, n, size):
    """Pooling takes keys and values of all of the text; the last block its queries, keys and values only."""
    d, text, t5 = c["hidden_size_x"], c["hidden_size_y"], c["t5_feat_dim"]
    weights = 4 * d * text + _gated(text, int(2 * c["mlp_ratio_y"] * text / 3))
    return [joint(c["depth"] - 1, weights, d, n), joint(1, 3 * d * text, d, n), of_text(1, t5 * text + 2 * t5 * t5)]


def _ideogram4(c, n, size):
    d = c["num_attention_heads"] * c["attention_head_dim"]
    weights = 4 * d * d + 3 * d * c["intermediate_size"]
    return [joint(c["num_layers"], weights, d, n), of_text(1, c["llm_features_dim"] * d)]


def _lens(c, n, size):
    d = c["num_attention_heads"] * c["attention_head_dim"]
    embedding = c["enc_hidden_dim"] * len(c["selected_layer_index"]) * d
    return [joint(c["num_layers"], 4 * d * d + 3 * d * int(d / 3 * 8), d, n), of_text(1, embedding)]


def _joyimage(c, n, size):
    d = c["hidden_size"]
    return [joint(c["num_layers"], 12 * d * d, d, n), of_text(1, (c["text_dim"] + d) * d)]


def _omnigen2(c, n, size):
    """Boogu, too: its blocks of two streams have one projection more."""
    d, double = c["hidden_size"], c.get("num_double_stream_layers", 0)
    weights = 2 * d * d + 2 * d * d * c["num_kv_heads"] // c["num_attention_heads"] + _gated(d, 4 * d)
    embedding = c.get("text_feat_dim", c.get("instruction_feat_dim")) * d
    blocks = [joint(c["num_layers"], weights, d, n), joint(double, weights + d * d, d, n)]
    return [*blocks, of_text(c["num_refiner_layers"], weights, d), of_text(1, embedding)]


def _auraflow(c, n, size):
    """In front of the text are eight tokens of the model's own."""
    d = c["dim"]
    weights = 4 * d * d + _gated(d, int(8 * d / 3))
    return [joint(c["n_layers"], weights, d, n, 8 + size.text), of_text(1, c["cond_seq_dim"] * d)]


def _cogvideox(c, n, size):
    d = c["num_attention_heads"] * c["attention_head_dim"]
    return [joint(c["num_layers"], 12 * d * d, d, n), of_text(1, c["text_embed_dim"] * d)]


def _pixeldit(c, n, size):
    d, tokens = c["hidden_size"], min(size.text, c["txt_max_length"])
    weights = 4 * d * d + _gated(d, int(8 * d / 3), multiple=1)
    return [joint(c["patch_depth"], weights, d, n, tokens), of_text(1, c["txt_embed_dim"] * d, tokens=tokens)]


def _ernie(c, n, size):
    d = c["hidden_size"]
    weights = 4 * d * d + 3 * d * c["ffn_hidden_size"]
    return [joint(c["num_layers"], weights, d, n), of_text(1, c["text_in_dim"] * d)]


def _pixart(c, n, size):
    d = c["hidden_size"]
    return [cross(c["depth"], 2 * d * d, d, n), of_text(1, (c["caption_channels"] + d) * d)]


def _hunyuan_dit(c, n, size):
    """mT5's tokens go through an MLP, and make a vector, which stays the positive's."""
    d, text, t5 = c["hidden_size"], c["text_states_dim"], c["text_states_dim_t5"]
    return [cross(c["depth"], 2 * text * d, d, n, size.text + MT5), of_text(1, 4 * t5 * (t5 + text), tokens=MT5)]


def _stable_audio(c, n, size):
    """The seconds are two tokens more; a token of the sound's has the time. Keys and values are as wide as the text."""
    text, tokens = c["cond_token_dim"], size.text + 2
    return [cross(c["depth"], 2 * text * text, c["embed_dim"], n + 1, tokens), of_text(1, 2 * text**2, tokens=tokens)]


def _stable_audio3(c, n, size):
    """A short text is padded, behind it come the seconds. Two attentions, the same values: twice the width."""
    d, tokens = c["embed_dim"], max(size.text, 256) + 1
    return [cross(c["depth"], 3 * d * d, 2 * d, n, tokens), of_text(1, (c["cond_token_dim"] + d) * d, tokens=tokens)]


def _ace(c, n, size):
    """The speaker, the text, the lyrics: these have an encoder, in which tokens also meet by how far they are apart."""
    d, w = c["inner_dim"], c["lyric_hidden_size"]
    encoder = Modules(6, (4 + 8 + 2) * w * w, w, (2, 0), tokens=LYRICS)
    embeddings = of_text(1, c["text_embedding_dim"] * d), of_text(1, w * (w + d), tokens=LYRICS)
    return [cross(c["num_layers"], 2 * d * d, d, n, 1 + size.text + LYRICS), encoder, *embeddings]


def _ace15(c, n, size):
    """The text, the lyrics, which have an encoder, and the timbre, which is the positive's."""
    d, w, tokens = c["num_heads"] * c["head_dim"], c["encoder_hidden_size"], size.text + LYRICS + 1
    of_keys = c["num_kv_heads"] * c["head_dim"]
    layer = 2 * w * (d + of_keys) + 3 * w * c["encoder_intermediate_size"]
    lyrics = of_text(c["num_lyric_layers"], layer, d, LYRICS), of_text(1, c["text_hidden_dim"] * w, tokens=LYRICS)
    embeddings = of_text(1, c["text_hidden_dim"] * w), of_text(1, w * c["hidden_size"], tokens=tokens)
    return [cross(c["num_dit_layers"], 2 * c["hidden_size"] * of_keys, d, n, tokens), *lyrics, *embeddings]


# What the negative's text goes through, by family, of the config, the number of the image's tokens, and the Size.
PATHS = {
    "sdxl": _unet, "sd3": _sd3, "flux": _flux, "flux2": _flux, "chroma": _flux, "z_image": _z_image,
    "qwen_image": _qwen_image, "krea2": _krea2, "wan": _wan, "ltx2": _ltx2, "kandinsky5": _kandinsky5,
    "anima": _cosmos, "hunyuan_video": _hunyuan, "hunyuan_video15": _hunyuan, "hunyuan_image": _hunyuan,
    "hidream": _hidream, "mochi": _mochi, "ideogram4": _ideogram4, "lens": _lens, "joyimage": _joyimage,
    "omnigen2": _omnigen2, "boogu": _omnigen2, "auraflow": _auraflow, "cogvideox": _cogvideox, "pixeldit": _pixeldit,
    "ernie": _ernie, "pixart": _pixart, "hunyuan_dit": _hunyuan_dit, "cosmos1": _cosmos, "stable_audio": _stable_audio,
    "stable_audio3": _stable_audio3, "ace": _ace, "ace15": _ace15,
}


def least(size):
    """The operations that NAG adds to a step at the least."""
    return sum(modules.operations(size.text) for modules in PATHS[size.family](size.config, size.image, size))


def width(size):
    """That of the attention in which text and image meet, the widest where there are several."""
    return max(modules.width for modules in PATHS[size.family](size.config, size.image, size))


def _unet_levels(size):
    """(transformer blocks, width, image tokens) of each resolution."""
    config = size.config
    inputs, outputs = iter(config["transformer_depth"]), list(config["transformer_depth_output"])
    for level, multiplier in enumerate(config["channel_mult"]):
        count = config["num_res_blocks"][level]
        blocks = sum(next(inputs) for _ in range(count))
        blocks += sum(outputs.pop(0) for _ in range(count + 1))
        if level == len(config["channel_mult"]) - 1:
            blocks += config["transformer_depth_middle"]
        tokens = math.prod(math.ceil(side / 2**level) for side in size.latent[1:])
        yield blocks, config["model_channels"] * multiplier, tokens


def count(size, methods):
    """The operations of one step of each method, by key; of those only that sample with ComfyUI's guider."""
    patcher = on_meta(size)
    counted = {}
    for method in methods:
        if method.steps:  # acts at some sigmas only, and sigmas are values
            continue
        try:
            guider = method.guider(patcher, size)
        except Exception:  # the timing says why
            continue
        if type(guider) is comfy.samplers.CFGGuider:
            with flop_counter.FlopCounterMode(display=False, custom_mapping=CPU_KERNEL) as counter:
                try:
                    one_call(guider, size)
                except NotImplementedError:  # another pack's asks for values
                    continue
            counted[method.key] = counter.get_total_flops()
    return counted


def _attention(q, k, v, *args, out_shape=None, **more):
    return flop_counter.sdpa_flop_count(q, k, v)


# PyTorch's counter does not know the attention that is NAG's on the meta device.
CPU_KERNEL = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def _to_the_first(mixture, x):
    """HiDream's mixture of experts, with the same ones for all tokens, since scores are values."""
    mixture.gate(x)
    return sum(expert(x) for expert in (mixture.shared_experts, *mixture.experts[: mixture.num_activated_experts]))


@contextmanager
def without_values():
    """On the meta device, a tensor that is asked for its value, as some models do, is 1, and not true."""
    item, is_true = torch.Tensor.item, torch.Tensor.__bool__
    with (
        mock.patch.object(torch.Tensor, "item", lambda t: 1 if t.is_meta else item(t)),
        mock.patch.object(torch.Tensor, "__bool__", lambda t: not t.is_meta and is_true(t)),
        mock.patch.object(torch, "bincount", lambda t, minlength: t.new_empty(minlength)),
        mock.patch.object(comfy.ldm.hidream.model.MOEFeedForwardSwiGLU, "forward", _to_the_first),
        mock.patch.object(comfy.model_management, "get_free_memory", lambda *_: 1 << 60),
    ):
        yield


def on_meta(size):
    """A ModelPatcher without weights."""
    with without_values():
        return build(size, torch.bfloat16, META)


class _OneCall:
    """A sampler that calls the model once."""

    def sample(self, model, sigmas, extra_args, callback, noise, *rest):
        return model(noise, torch.ones(1, device=noise.device), **extra_args)


def one_call(guider, size):
    """One step of a guider on the meta device, as CFGGuider goes about it, less what asks for values or memory."""
    patcher = guider.model_patcher
    guider.inner_model = patcher.model
    for entry in itertools.chain(*guider.original_conds.values()):
        entry["cross_attn"] = entry["cross_attn"].to(META)  # from there nothing could be copied back to the CPU
    guider.conds = {name: [entry.copy() for entry in entries] for name, entries in guider.original_conds.items()}
    comfy.sampler_helpers.prepare_model_patcher(patcher, guider.conds, guider.model_options)
    patcher.model.current_patcher = patcher
    noise, shapes = size.latents(lambda *shape: torch.empty(shape, device=META)), {}
    if size.sound is not None:
        noise, packed = comfy.utils.pack_latents(noise.unbind())
        shapes = {"latent_shapes": packed}
    with torch.inference_mode(), without_values():
        guider.inner_sample(noise, None, META, _OneCall(), torch.ones(2), None, None, True, 0, **shapes)
