"""The playground's model as ComfyUI objects: MODEL, CLIP and VAE out of one small safetensors file.

The MODEL is ComfyUI's own Flux class at 1/6000 of Flux's size, under ComfyUI's own BaseModel and ModelPatcher, so that
whatever works on Flux meets the same code here. ComfyUI's file loaders cannot build it: even those that read Flux's
widths from a file fix 16 latent channels and heads of 128 features, and a model of this size learns better with four
heads of 32. The CLIP is ComfyUI's, around a tokenizer of words and a text model of two layers. The VAE has nothing to
learn: a latent pixel holds 2x2 pixels of the 32x32 picture, and each of those is shown 4x4 pixels large.
"""
import dataclasses
import json
import pathlib

import comfy.latent_formats
import comfy.ldm.flux.model
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.pixel_space_convert
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch

from .worlds import shapes

WEIGHTS = pathlib.Path(__file__).with_name("playground.safetensors")
FOLD = 2  # pixels of the drawn picture per latent pixel, each way; older hosts take no other patches than 2x2
ENLARGE = 4  # pixels of the decoded picture per pixel of the drawn one

FLUX = {
    "in_channels": 3 * FOLD**2,
    "out_channels": 3 * FOLD**2,
    "patch_size": 2,
    "hidden_size": 128,
    "num_heads": 4,
    "axes_dim": [8, 12, 12],
    "depth": 2,
    "depth_single_blocks": 2,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": False,
    "txt_ids_dims": [],
}
TEXT = {"width": 64, "num_heads": 4, "num_hidden_layers": 2, "max_words": 12}
SHIFT = 3.0  # whole shapes stand out of much noise, so most is decided early: sample more there


# ---------------------------------------------------------------- MODEL
def to_latent(pictures):
    """(B, 3, 32, 32) pictures from -1 to 1 to (B, 12, 16, 16) latents: the same numbers, folded."""
    return torch.nn.functional.pixel_unshuffle(pictures, FOLD)


def to_picture(latents):
    """(B, 12, 16, 16) latents to (B, 3, 32, 32) pictures."""
    return torch.nn.functional.pixel_shuffle(latents, FOLD)


class PlaygroundLatent(comfy.latent_formats.LatentFormat):
    """Latents are the folded picture; previews show the mean of the 2x2 pixels and need no decoder."""

    latent_channels = 3 * FOLD**2
    latent_rgb_factors = [
        [1 / FOLD**2 if channel // FOLD**2 == colour else 0.0 for colour in range(3)]
        for channel in range(latent_channels)
    ]


class PlaygroundConfig(comfy.supported_models.FluxSchnell):
    """ComfyUI's settings for a Flux without guidance embedding, at another size."""

    latent_format = PlaygroundLatent
    sampling_settings = {"multiplier": 1.0, "shift": SHIFT}
    supported_inference_dtypes = [torch.float32]


def build_model(device=None):
    """The untrained comfy.model_base.Flux, float32, with uninitialised weights. device: a torch.device or None."""
    known = {field.name for field in dataclasses.fields(comfy.ldm.flux.model.FluxParams)}
    sizes = {name: value for name, value in FLUX.items() if name in known}  # older hosts lack some
    sizes |= {"vec_in_dim": TEXT["width"], "context_in_dim": TEXT["width"]}
    config = PlaygroundConfig(sizes)
    config.set_inference_dtype(torch.float32, None)
    return config.get_model({}, device=device)


# ---------------------------------------------------------------- CLIP
class Words:
    """A tokenizer with the interface of transformers' that ComfyUI's SDTokenizer uses: one number per known word."""

    vocabulary = ("<start>", "<end>", *shapes.WORDS)

    @classmethod
    def from_pretrained(cls, path, **kwargs):
        return cls()

    def __call__(self, text):
        """Raises UnknownWord."""
        words = ("<start>", *shapes.words_of(text), "<end>")
        return {"input_ids": [self.vocabulary.index(word) for word in words]}

    def get_vocab(self):
        return {word: number for number, word in enumerate(self.vocabulary)}


SPECIAL_TOKENS = {"start": 0, "end": 1, "pad": 1}


class WordTokenizer(comfy.sd1_clip.SDTokenizer):
    """Prompts as ComfyUI reads them, with (weights:1.2), to as many tokens as there are words and two more."""

    def __init__(self, embedding_directory=None, tokenizer_data={}):
        super().__init__(
            tokenizer_path="", tokenizer_class=Words, pad_to_max_length=False, max_length=TEXT["max_words"] + 2,
            embedding_directory=embedding_directory, embedding_size=TEXT["width"], embedding_key="words",
            tokenizer_data=tokenizer_data)

    def tokenize_with_weights(self, text, *args, **kwargs):
        """Raises ValueError for more words than the model was trained on, UnknownWord for others."""
        tokens = super().tokenize_with_weights(text, *args, **kwargs)
        if len(tokens) > 1:
            raise ValueError(f"The playground's model reads prompts of at most {TEXT['max_words']} words.")
        return tokens


class PlaygroundTokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data={}):
        super().__init__(embedding_directory, tokenizer_data, name="words", tokenizer=WordTokenizer)


class TextModel(torch.nn.Module):
    """A transformer over words, both ways: what SDClipModel expects of a `model_class`.

    config: TEXT. dtype, device, operations: ComfyUI's.
    """

    def __init__(self, config, dtype, device, operations):
        super().__init__()
        kwargs = {"dtype": dtype, "device": device}
        width = config["width"]
        self.num_layers = config["num_hidden_layers"]
        self.token_embedding = operations.Embedding(len(Words.vocabulary), width, **kwargs)
        self.position_embedding = operations.Embedding(config["max_words"] + 2, width, **kwargs)
        self.layers = torch.nn.ModuleList(
            TextLayer(width, config["num_heads"], operations, **kwargs) for _ in range(self.num_layers))
        self.final_norm = operations.LayerNorm(width, **kwargs)
        self.projection = operations.Linear(width, width, **kwargs)

    def get_input_embeddings(self):
        return self.token_embedding

    def forward(self, input_tokens, attention_mask=None, embeds=None, num_tokens=None, intermediate_output=None,
                final_layer_norm_intermediate=True, dtype=torch.float32, **kwargs):
        """embeds: (B, L, width) word embeddings, or input_tokens: (B, L) integers. attention_mask: (B, L), 1 for a
        word and 0 for padding. num_tokens: B lengths. intermediate_output: a layer's index, for CLIP skip.

        Gives (B, L, width) tokens, the same after the asked layer or None, and the (B, width) pooled text, which is
        that of the end token, projected and plain.
        """
        if embeds is None:
            embeds = self.token_embedding(input_tokens, out_dtype=dtype)
        places = torch.arange(embeds.shape[1], device=embeds.device)
        x = embeds + self.position_embedding(places, out_dtype=dtype)
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None]
        after_layer = []
        for layer in self.layers:
            x = layer(x, mask)
            after_layer.append(x)
        intermediate = None if intermediate_output is None else after_layer[intermediate_output]
        if intermediate is not None and final_layer_norm_intermediate:
            intermediate = self.final_norm(intermediate)
        x = self.final_norm(x)
        pooled = x[torch.arange(len(x)), torch.as_tensor(num_tokens) - 1]
        return x, intermediate, self.projection(pooled), pooled


class TextLayer(torch.nn.Module):
    def __init__(self, width, num_heads, operations, **kwargs):
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = operations.LayerNorm(width, **kwargs)
        self.qkv = operations.Linear(width, 3 * width, **kwargs)
        self.out = operations.Linear(width, width, **kwargs)
        self.norm2 = operations.LayerNorm(width, **kwargs)
        self.mlp = torch.nn.Sequential(
            operations.Linear(width, 4 * width, **kwargs),
            torch.nn.GELU(),
            operations.Linear(4 * width, width, **kwargs),
        )

    def forward(self, x, mask):
        """x: (B, L, width). mask: bool, True where a key may be read, broadcast to (B, heads, L, L), or None."""
        q, k, v = self.qkv(self.norm1(x)).reshape(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class WordEncoder(comfy.sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}):
        # masks matter only to (weighted:1.2) prompts, which ComfyUI compares with a padded empty one
        super().__init__(device=device, dtype=dtype, textmodel_json_config=dict(TEXT), model_class=TextModel,
                         special_tokens=SPECIAL_TOKENS, enable_attention_masks=True, model_options=model_options)


class PlaygroundEncoder(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}):
        super().__init__(device=device, dtype=dtype, model_options=model_options, name="words", clip_model=WordEncoder)


def build_clip():
    """The untrained comfy.sd.CLIP, float32, with uninitialised weights."""
    target = comfy.supported_models_base.ClipTarget(PlaygroundTokenizer, PlaygroundEncoder)
    return comfy.sd.CLIP(target, model_options={"dtype": torch.float32})


def text_model(clip):
    """The TextModel inside a CLIP of build_clip()."""
    return clip.cond_stage_model.words.transformer


# ---------------------------------------------------------------- VAE
class Enlarger(comfy.pixel_space_convert.PixelspaceConversionVAE):
    """Latents to large smooth pictures and back."""

    def decode(self, samples, *args, **kwargs):
        """(B, 12, H, W) to (B, 3, 8H, 8W), from -1 to 1, up to a little overshoot that the VAE clamps."""
        return torch.nn.functional.interpolate(to_picture(samples), scale_factor=ENLARGE, mode="bicubic")

    def encode(self, pixels, *args, **kwargs):
        """(B, 3, 8H, 8W) to (B, 12, H, W)."""
        return to_latent(torch.nn.functional.avg_pool2d(pixels, ENLARGE))


def build_vae():
    """A comfy.sd.VAE for to_latent()'s latents, 8 pixels wide each as with any image VAE. It has no weights."""
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
    vae.first_stage_model = Enlarger().eval()
    stock = vae.patcher
    vae.patcher = type(stock)(vae.first_stage_model, load_device=stock.load_device,
                              offload_device=stock.offload_device)
    vae.latent_channels = PlaygroundLatent.latent_channels
    vae.upscale_ratio = vae.downscale_ratio = FOLD * ENLARGE
    vae.memory_used_encode = vae.memory_used_decode = _memory_used
    return vae


def _memory_used(shape, dtype):
    """Bytes that decoding or encoding one (1, channels, H, W) latent or picture takes, generously."""
    return 1024 * shape[-1] * shape[-2] * comfy.model_management.dtype_size(dtype)


# ---------------------------------------------------------------- the file
MODEL_PREFIX, TEXT_PREFIX = "model.diffusion_model.", "text_encoder."


def save(flux, text, path, notes):
    """Write the weights of a build_model().diffusion_model and a text_model() to one safetensors file, with their
    sizes in its metadata. In float16, half the size and precise enough.

    notes: further metadata, names to strings.
    """
    weights = {MODEL_PREFIX + name: value for name, value in flux.state_dict().items()}
    weights |= {TEXT_PREFIX + name: value for name, value in text.state_dict().items()}
    config = json.dumps({"flux": FLUX, "text": TEXT, "words": Words.vocabulary})
    comfy.utils.save_torch_file({name: value.half().contiguous() for name, value in weights.items()}, str(path),
                                metadata={"config": config, **notes})


def load(path=WEIGHTS):
    """Read the trained playground. Gives (ModelPatcher, CLIP, VAE), what ComfyUI calls MODEL, CLIP and VAE.

    Raises FileNotFoundError, and RuntimeError when the file does not fit this code.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The playground's weights are missing: {path.name} should lie in {path.parent}.")
    weights = comfy.utils.load_torch_file(str(path), safe_load=True)
    offload_device = comfy.model_management.unet_offload_device()
    model, clip = build_model(offload_device), build_clip()
    # As ComfyUI's loaders do: newer hosts call some of Flux's weights by other names.
    model.diffusion_model.load_state_dict(model.model_config.process_unet_state_dict(_part(weights, MODEL_PREFIX)))
    text_model(clip).load_state_dict(_part(weights, TEXT_PREFIX))
    patcher = comfy.model_patcher.ModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device)
    return patcher, clip, build_vae()


def _part(weights, prefix):
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
