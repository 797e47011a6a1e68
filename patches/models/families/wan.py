"""Wan 2.1 and 2.2: text-to-video, image-to-video, VACE and the other models with Wan's cross-attention."""
import math
from contextlib import contextmanager

from ...attention.override import CrossAttention
from ...attention.sizes import Sizes
from ...blocks import list_name
from ...settings import Strength
from ..adapter import Adapter
from ..arguments import in_front, names_of
from ..compiled import entrances, plain
from ..hooks import hooked
from ..places import BEFORE, BEHIND, Layout, patch_of_sizes
from ..visit import attending_by

CACHE = "crossattn_cache"  # the argument by which a block keeps the text's keys and values from call to call
POSE = "context_pose"  # the argument with a text of its own for WanAnimate2's branch of the pose video


class Wan(Adapter):
    """The text only enters in the blocks' `cross_attn`; there the negative's tokens are further keys.

    The override is installed for that module alone, since self-attention can have as many tokens as the text.
    """

    families = {
        "Wan": Strength(11.0, 2.5, 0.25, whose="the authors' code"),
        "Wan 2.1 1.3B": Strength(6.0, 2.5, 0.25, whose="the authors' workflow, 20 steps at cfg 8"),
        "Wan 2.1 14B with CausVid": Strength(11.0, 3.5, 0.5, 0.75, "the authors' workflow"),
    }
    text_encoder = "UMT5-XXL (CLIPLoader, type wan)"
    needed = ("comfy.ldm.wan.model:WanT2VCrossAttention.forward(transformer_options)",)
    block_lists = ("blocks",)
    parts = ("cross_attn", "text_embedding")

    def family(self, model):
        return "Wan"

    def labelled(self, model):
        found = {}
        for path, module in plain(model).named_modules():
            if path.endswith(".cross_attn"):
                blocks = list_name(path.partition(".")[0])
                found[blocks, sum(name == blocks for name, _ in found)] = [module]
        return found

    def text_width(self, model):
        return model.text_embedding[0].in_features

    def layout(self, model, n_axes):
        refers_first = getattr(model, "ref_conv", None) is not None
        return Layout(patch_of_sizes(model.patch_size, n_axes), BEFORE if refers_first else BEHIND)

    @contextmanager
    def guided(self, model, call):
        with hooked(_hooks(self.labelled(model), model, call)):
            yield call.joined_text(), call.transformer_options


def _hooks(attentions, model, call):
    equation, sizes, lengths = call.equation, call.sizes(), call.lengths()
    n_queries = _n_tokens(model, call.x) if hasattr(model, "rope_encode_pose") else None

    def is_of_pose(given):  # which follows another text
        return n_queries is not None and given["x"].shape[1] != n_queries

    def attend(given, options):
        if is_of_pose(given):
            return None
        n_image = given["context_img_len"] if hasattr(given.module, "k_img") else None
        return CrossAttention(equation, options, sizes, n_image, lengths=lengths)

    def without_negative(given):
        text = given["context"]
        return None if is_of_pose(given) else given.changed(context=text[:, : text.shape[1] - sizes.negative])

    for label, modules in attentions.items():
        for module in entrances(modules, call.compiled):
            yield in_front(module, attending_by(attend) if call.acts_in(label) else without_negative)
    keeping = [module for module in model.modules() if CACHE in names_of(type(module).forward)]
    for module in entrances(keeping, call.compiled):
        yield in_front(module, _without_cache)
    if n_queries is not None:
        yield model.register_forward_pre_hook(_PoseText(sizes), with_kwargs=True)


def _n_tokens(model, x):
    return math.prod(math.ceil(size / patch) for size, patch in zip(x.shape[2:], model.patch_size))


def _without_cache(given):
    """What a block keeps would be the joined text's, also for the calls without NAG; and it would attend by itself."""
    return given.changed(**{CACHE: None})


class _PoseText:
    """A hook in front of WanAnimate2: the pose video follows the positive's text, if it has none of its own.

    It is the same for both prompts, as the image is, and the model may keep what it makes of it for other calls.
    """

    def __init__(self, sizes: Sizes):
        self.sizes = sizes

    def __call__(self, model, args, kwargs):
        if kwargs.get(POSE) is None:
            kwargs = {**kwargs, POSE: kwargs["context"][:, : self.sizes.positive]}
        return args, kwargs
