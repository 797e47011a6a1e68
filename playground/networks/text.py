"""The CLIP of a playground's network: ComfyUI's own, around a tokenizer of words and a text model of two layers."""
from functools import partial

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch

START, END = 0, 1  # numbers of the tokens around a prompt; what pads it is END again, as in CLIP-L
SPECIAL_TOKENS = {"start": START, "end": END, "pad": END}


class Words:
    """A tokenizer with the interface of transformers' that ComfyUI's SDTokenizer uses: one number per known word.

    world: its WORDS are known, its words_of(text) finds them.
    """

    def __init__(self, world):
        self.world = world
        self.vocabulary = ("<start>", "<end>", *world.WORDS)
        self.numbers = {word: number for number, word in enumerate(self.vocabulary)}

    def from_pretrained(self, path, **kwargs):
        return self

    def __call__(self, text):
        """Raises the world's UnknownWord."""
        return {"input_ids": [START, *(self.numbers[word] for word in self.world.words_of(text)), END]}

    def get_vocab(self):
        return self.numbers


def tokens(words, prompts, length):
    """(B, length) long: the prompts' numbers, each padded. Raises UnknownWord, and ValueError where one is too long."""
    rows = [words(prompt)["input_ids"] for prompt in prompts]
    if max(map(len, rows)) > length:
        raise ValueError(TOO_LONG.format(length - 2))
    return torch.tensor([row + [END] * (length - len(row)) for row in rows])


TOO_LONG = "The playground's model reads prompts of at most {} words."


class WordTokenizer(comfy.sd1_clip.SDTokenizer):
    """Prompts as ComfyUI reads them, with (weights:1.2), to one token a word and two more, padded or not."""

    def __init__(self, embedding_directory=None, tokenizer_data={}, *, words, config):
        super().__init__(
            tokenizer_path="", tokenizer_class=words, pad_to_max_length=not config["masked"],
            max_length=config["max_words"] + 2, embedding_directory=embedding_directory,
            embedding_size=config["width"], embedding_key="words", tokenizer_data=tokenizer_data)

    def tokenize_with_weights(self, text, *args, **kwargs):
        """Raises ValueError for more words than the model was trained on, the world's UnknownWord for others."""
        tokens = super().tokenize_with_weights(text, *args, **kwargs)
        if len(tokens) > 1:
            raise ValueError(TOO_LONG.format(self.max_length - 2))
        return tokens


class PlaygroundTokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data={}, *, words, config):
        super().__init__(embedding_directory, tokenizer_data, name="words",
                         tokenizer=partial(WordTokenizer, words=words, config=config))


class TextModel(torch.nn.Module):
    """A transformer over words, both ways: what SDClipModel expects of a `model_class`.

    config: that of build_clip(). dtype, device, operations: ComfyUI's.
    """

    def __init__(self, config, dtype, device, operations):
        super().__init__()
        kwargs = {"dtype": dtype, "device": device}
        width = config["width"]
        self.num_layers = config["num_hidden_layers"]
        self.token_embedding = operations.Embedding(config["vocabulary"], width, **kwargs)
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
        word and 0 for padding, or None: padding is read, too. num_tokens: B lengths. intermediate_output: a layer's
        index, for CLIP skip.

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
        ends = torch.as_tensor(num_tokens, device=x.device) - 1
        pooled = x[torch.arange(len(x), device=x.device), ends]
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
    def __init__(self, device="cpu", dtype=None, model_options={}, *, config):
        # masks matter only to (weighted:1.2) prompts, which ComfyUI compares with a padded empty one
        super().__init__(device=device, dtype=dtype, max_length=config["max_words"] + 2,
                         textmodel_json_config=dict(config), model_class=TextModel, special_tokens=SPECIAL_TOKENS,
                         enable_attention_masks=config["masked"], model_options=model_options)


class PlaygroundEncoder(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}, *, config):
        super().__init__(device=device, dtype=dtype, model_options=model_options, name="words",
                         clip_model=partial(WordEncoder, config=config))


def build_clip(world, width, masked):
    """The untrained comfy.sd.CLIP, float32, with uninitialised weights.

    world: whose words it reads. width: of a token's embedding. masked: whether a prompt is as long as it has words;
    otherwise all are padded to one length, which the model reads, as it is with Stable Diffusion and Flux.
    """
    words = Words(world)
    config = {"width": width, "num_heads": 4, "num_hidden_layers": 2, "max_words": world.MAX_WORDS,
              "vocabulary": len(words.vocabulary), "masked": masked}
    target = comfy.supported_models_base.ClipTarget(
        partial(PlaygroundTokenizer, words=words, config=config), partial(PlaygroundEncoder, config=config))
    return comfy.sd.CLIP(target, model_options={"dtype": torch.float32})


def text_model(clip):
    """The TextModel inside a CLIP of build_clip()."""
    return clip.cond_stage_model.words.transformer


def encode(model, tokens):
    """(B, L) tokens() to what a model is conditioned on: (B, L, width) context, (B, width) pooled text."""
    ends = (tokens == END).int().argmax(1)
    context, _, pooled, _ = model(tokens, num_tokens=ends + 1)
    return context, pooled
