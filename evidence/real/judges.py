"""Who says of a picture whether it shows what its prompt says, and what its negative names.

CLIP and its like compare a picture with a text, and say how near they are, but not whether something shows: "a photo
with a beard" against "a photo without a beard" is hardly more than a coin. So of them the tables have CLIPScore
(Hessel et al. 2021, here without its factor of 2.5) for the prompt and for the negative, and how often a picture is
farther from the negative than that without guidance of the same seed, for which no threshold is needed.

A vision-language model is asked, for the prompt and for the negative, 'Does this picture show "..."? Please answer yes
or no.', and its first token decides: P(yes) / (P(yes) + P(no)), as in VQAScore (Lin et al. 2024). Above a half is yes.
"""
from pathlib import Path
from typing import Protocol

from PIL import Image

from .pairs import Pair

EYES, PLAYGROUND = "eyes", "playground"
QUESTION = 'Does this picture show "{}"? Please answer yes or no.'
YES, NO = ("Yes", "yes", "YES"), ("No", "no", "NO")


class BadJudge(ValueError):
    """A judge that can't be had, or can't judge; says why."""


class Judge(Protocol):
    """name: as the user named it. kind: what it is, for the page. frames: how many of a video it is shown; None: all.

    check() raises BadJudge; it is quick, and called before anything is painted.

    judge() gives numbers by name for one picture, or for frames of a video: `unwanted` and `wanted` are 1 or 0, or
    shares of its frames; tables.MEASURES has the others.
    """

    name: str
    kind: str
    frames: int | None

    def check(self, pairs: list[Pair]) -> None: ...

    def judge(self, frames: list[Image.Image], pair: Pair) -> dict[str, float]: ...


def named(name: str, prompt: dict, cpu: bool = False) -> Judge:
    """The judge of a name: PLAYGROUND, or a folder or a name that transformers can load. Raises BadJudge.

    prompt: what is painted, in API format.
    """
    if name == PLAYGROUND:
        from .playground import PlaygroundJudge, world_of

        return PlaygroundJudge(world_of(prompt))
    config = _config(name)
    from transformers.models.auto import modeling_auto as kinds

    if config.model_type in kinds.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        return Similarity(name, cpu)
    if config.model_type in getattr(kinds, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", {}):
        return Asked(name, cpu)
    raise BadJudge(f"{name} is a {config.model_type}: neither of CLIP's kind nor a vision-language model that this "
                   "transformers knows.")


def _config(name):
    try:
        from transformers import AutoConfig
    except ImportError:
        raise BadJudge("There is no transformers here. ComfyUI has it: name its Python by COMFYUI_PYTHON.") from None
    folder = Path(name).expanduser()
    if not folder.is_dir() and (folder.is_absolute() or name[:1] in ".~"):
        raise BadJudge(f"{name} is no folder.")
    try:
        return AutoConfig.from_pretrained(folder if folder.is_dir() else name)
    except (OSError, ValueError, KeyError) as error:
        raise BadJudge(f"transformers can't load {name}: {_first_line(error)}") from None


def _first_line(error):
    return str(error).strip().partition("\n")[0]


class _Pretrained:
    """A model and what prepares its inputs, loaded when first needed."""

    auto = "AutoModel"
    frames = 4

    def __init__(self, name, cpu=False):
        import torch

        self.name, self._model = name, None
        self._source = Path(name).expanduser() if Path(name).expanduser().is_dir() else name
        self._device = "cpu" if cpu or not torch.cuda.is_available() else "cuda"
        if not cpu and torch.backends.mps.is_available():
            self._device = "mps"

    def check(self, pairs):
        """Whether it could be loaded, short of its weights."""
        self._processor = self._load("AutoProcessor")
        folder = Path(self._source)
        if folder.is_dir() and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
            raise BadJudge(f"{self.name} has no weights: neither *.safetensors nor *.bin.")

    def _load(self, auto, **how):
        import transformers

        if not hasattr(transformers, auto):
            raise BadJudge(f"transformers {transformers.__version__} has no {auto}, which {self.name} takes.")
        try:
            return getattr(transformers, auto).from_pretrained(self._source, **how)
        except (OSError, ValueError, ImportError, RuntimeError, KeyError, TypeError) as error:
            raise BadJudge(f"transformers can't load {self.name}: {_first_line(error)}") from None

    @property
    def model(self):
        if self._model is None:
            import transformers

            as_saved = {} if int(transformers.__version__.partition(".")[0]) > 4 else {"torch_dtype": "auto"}
            self._model = self._load(self.auto, **as_saved).to(self._device).eval()
        return self._model


class Similarity(_Pretrained):
    """CLIP, SigLIP and their like: the cosine between a picture and each text, a mean over frames."""

    kind = "which tells how near a picture is to a text, by the cosine of the angle between them"

    def judge(self, frames, pair):
        import torch

        most = getattr(self.model.config.text_config, "max_position_embeddings", 64)
        inputs = self._processor(text=[pair.prompt, pair.negative], images=frames, return_tensors="pt",
                                 padding="max_length", truncation=True, max_length=most)
        with torch.inference_mode():
            made = self.model(**inputs.to(self._device, self.model.dtype))
        picture, text = (torch.nn.functional.normalize(each.float(), dim=-1)
                         for each in (made.image_embeds, made.text_embeds))
        prompt, negative = (picture @ text.T).mean(0).tolist()
        return {"clip_prompt": prompt, "clip_negative": negative}


class Asked(_Pretrained):
    """A vision-language model that answers with yes or no."""

    kind = f"asked '{QUESTION.format('...')}'"
    auto = "AutoModelForImageTextToText"

    def check(self, pairs):
        super().check(pairs)
        if not getattr(self._processor, "chat_template", None):
            raise BadJudge(f"{self.name} has no chat template, by which a question is put to it.")
        self._answers()

    def judge(self, frames, pair):
        wanted, unwanted = ([self._asked(frame, text) for frame in frames] for text in (pair.prompt, pair.negative))
        share = lambda answers: sum(yes > no for yes, no in answers) / len(answers)
        mean = lambda answers: sum(yes / (yes + no) for yes, no in answers) / len(answers)
        return {"unwanted": share(unwanted), "wanted": share(wanted), "p_unwanted": mean(unwanted),
                "p_wanted": mean(wanted), "answered": sum(map(sum, wanted + unwanted)) / (2 * len(frames))}

    def _asked(self, frame, text):
        """(P(yes), P(no)) as its first token."""
        import torch

        content = [{"type": "image"}, {"type": "text", "text": QUESTION.format(text)}]
        chat = self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = self._processor(text=[chat], images=[frame], return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**inputs.to(self._device, self.model.dtype)).logits[0, -1]
        chances = logits.float().softmax(-1)
        return tuple(chances[list(tokens)].sum().item() + 1e-12 for tokens in self._answers())

    def _answers(self):
        """The tokens that begin a yes, and those that begin a no."""
        tokenizer = self._processor.tokenizer
        first = lambda word: tokenizer(word, add_special_tokens=False)["input_ids"][:1]
        yes, no = ({token for word in words for form in (word, f" {word}") for token in first(form)}
                   for words in (YES, NO))
        if not yes - no or not no - yes:
            raise BadJudge(f"{self.name} begins yes and no with the same token.")
        return yes - no, no - yes
