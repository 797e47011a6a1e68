"""The UNets: Stable Diffusion 1.5, 2 and XL, and what was distilled from them."""
from contextlib import contextmanager

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch.nn.functional import pad

from ...attention.override import OVERRIDE
from ...attention.sign_flip import flipped
from ...attention.sizes import may_change
from ...blocks import list_name
from ...settings import Strength
from ..adapter import Adapter
from ..compiled import plain
from ..places import Layout

OTHER_TEXT = (
    "Another node's attn2_patch brings texts of its own into the UNet, which NAG's negative would not reach: {} rows "
    "of text became {}. Attention Couple nodes do so for regions of the picture. Give each region a conditioning with "
    "a mask instead (Conditioning (Set Mask)) and a NAG Conditioning of its own, or take NAG out."
)
OFFSET_BESIDE = (
    "Another node puts attention of its own into the UNet (attn2_replace), as IPAdapters do, and there vsf can have no "
    "vsf_offset. Set vsf_offset to 0 in NAG Options."
)
NO_BIAS = (
    "The entries of the NAG negative have unequal weights or masks, and another node has put its own attention to the "
    "text into the UNet, which takes none for parts of a text. Take that node out, or give all entries the same."
)
# PyTorch's attention can read the same queries for both prompts; of libraries nobody knows.
TAKES_VIEWS = getattr(optimized_attention, "__name__", "") == "attention_pytorch"
LISTS, MIDDLE = ("input_blocks", "output_blocks"), "middle"  # as ComfyUI calls and counts the blocks
# Classes of comfy.model_base: their UNets do not tell.
LIKE_SDXL = {"SDXL", "SDXLRefiner"}


class UNet(Adapter):
    """ComfyUI's own patches reach cross-attention here: `attn2_patch` and `attn2_replace`, chained to earlier ones."""

    families = {
        "Stable Diffusion XL": Strength(3.0, 2.5, 0.5, uncapped_scale=2.0),
        "Stable Diffusion 1.5 and 2": Strength(2.0, 2.5, 0.5, uncapped_scale=2.0),
    }
    text_encoder = "the checkpoint's own CLIP (SD1.5: CLIP-L, SD2: OpenCLIP-H, SDXL: CLIP-L and CLIP-G)"
    parts = ("input_blocks", "output_blocks")
    mixes_rows = True

    def family(self, model):
        is_like_sdxl = not LIKE_SDXL.isdisjoint(cls.__name__ for cls in type(model).__mro__)
        return "Stable Diffusion XL" if is_like_sdxl else "Stable Diffusion 1.5 and 2"

    def labelled(self, model):
        found = {}
        net = plain(model)
        for path in [path for path, _ in net.named_modules() if path.endswith(".attn2")]:
            blocks, number, *_ = path.split(".")
            label = (list_name(blocks), int(number)) if blocks in LISTS else (MIDDLE, 0)
            found.setdefault(label, []).append(net.get_submodule(path.rpartition(".")[0]))
        # Input, middle, output, as they run: newer ComfyUI makes them in another order.
        return dict(sorted(found.items()))

    def unsupported(self, model):
        if not _cross_attentions(model.diffusion_model):
            return "it has no cross-attention to text"
        return None

    def text_width(self, model):
        return _cross_attentions(model)[0].to_k.in_features

    def unfit(self, options, transformer_options):
        others = transformer_options.get("patches_replace", {}).get("attn2")
        if options.equation == "vsf" and options.vsf_offset and others:
            return OFFSET_BESIDE
        return super().unfit(options, transformer_options)

    def layout(self, model, n_axes):
        return Layout(None)  # a block tells the size of its picture

    @contextmanager
    def guided(self, model, call):
        attention = _GuidedAttention(call)
        blocks = {(list_name(name), i) for name in LISTS for i in range(len(getattr(model, name)))} | {(MIDDLE, 0)}
        options = dict(call.transformer_options)
        patches, replacements = options.get("patches", {}), options.get("patches_replace", {})
        earlier = replacements.get("attn2", {})
        blocks = {block for block in blocks | earlier.keys() if call.acts_in(block[:2])}  # earlier ones may name a part
        options["patches"] = {**patches, "attn2_patch": [attention.patching(patches.get("attn2_patch", ()))]}
        options["patches_replace"] = {
            **replacements,
            "attn2": earlier | {b: attention.replacing(earlier.get(b, _stock_attention)) for b in blocks},
        }
        yield call.context, options


def _cross_attentions(model):
    return [module for name, module in model.named_modules() if name.endswith(".attn2")]


def _stock_attention(q, k, v, options, mask=None):
    return optimized_attention(
        q, k, v, options["n_heads"], mask, attn_precision=options["attn_precision"], transformer_options=options
    )


class _GuidedAttention:
    """The two patches of one model call; the first one leaves for the second how long the positive is."""

    def __init__(self, call):
        self.equation, self.acts_in, self.acts_everywhere = call.equation, call.acts_in, call.blocks is None
        self.lengths = call.lengths()
        # Of the call's rows, and of the guided ones.
        self.guided = [(slice(None), slice(None))] if call.all_guided else []
        self.n_positive = None
        self.text = self.joined = None
        # Rows that are not guided need keys too, to ride in the same tensor; nothing attends to theirs.
        self.negative = may_change(call.negative.new_zeros(len(call.context), *call.negative.shape[1:]), 1)
        start = 0
        for rows in call.guided:
            stop = start + rows.stop - rows.start
            self.negative[rows] = call.negative[start:stop].to(self.negative)
            if not call.all_guided:
                self.guided.append((rows, slice(start, stop)))
            start = stop

    def patching(self, earlier):
        """The `attn2_patch`: the negative's text behind the positive's, so that one projection serves both.

        earlier: the patches of other nodes, which may transform the text, each prompt's by itself.
        """

        def append_negative(q, k, v, options):
            if k is not self.text:  # as a rule all blocks get the same tensor
                self.text, self.n_positive = k, k.shape[1]
                self.joined = torch.cat((k, self.negative.to(k)), 1)
            return q, self.joined, self.joined

        def append_patched_negative(q, k, v, options):
            k_neg = v_neg = self.negative.to(k)
            q_neg = q.clone()  # a patch may write into it
            for patch in earlier:
                q_neg, k_neg, v_neg = patch(q_neg, k_neg, v_neg, options)
            for patch in earlier:
                q, k, v = patch(q, k, v, options)
            if k.shape[0] != self.negative.shape[0]:
                raise ValueError(OTHER_TEXT.format(self.negative.shape[0], k.shape[0]))
            self.n_positive = k.shape[1]
            joined = torch.cat((k, k_neg), 1)
            return q, joined, joined if v is k and v_neg is k_neg else torch.cat((v, v_neg), 1)

        def append_where_it_acts(q, k, v, options):
            if self.acts_in(options["block"]):
                return append(q, k, v, options)
            for patch in earlier:
                q, k, v = patch(q, k, v, options)
            return q, k, v

        append = append_patched_negative if earlier else append_negative
        return append if self.acts_everywhere else append_where_it_acts

    def replacing(self, attention):
        """The `attn2_replace` around `attention`."""

        def attend(q, k, v, options):
            n, grid = self.n_positive, tuple(options.get("activations_shape", ())[2:]) or None
            if self.equation.flips and self.guided[0][0] == slice(None):
                return self.at_once(attention, q, k, v, options, grid)
            if attention is _stock_attention and self.fits_one_call(q, k, options):
                return self.in_one_call(q, k, v, options)
            out = attention(q, k[:, :n], v[:, :n], options)
            if attention is not _stock_attention or OVERRIDE in options:
                out = out.clone()  # what another node returns may be in use elsewhere
            for rows, guided in self.guided:
                positive, of_rows = out[rows], _options_of_rows(options, rows, q.shape[0])
                if self.equation.flips:
                    out[rows] = self.at_once(attention, q[rows], k[rows], v[rows], of_rows, grid, guided)
                    continue
                bias = self.equation.key_bias(q.shape[1], self.lengths, q, grid, guided)
                more = {} if bias is None else {"mask": self.fitting(bias, attention, k.shape[1] - n)}
                negative = attention(q[rows], k[rows, n:], v[rows, n:], of_rows, **more)
                self.equation(positive, negative, out=positive, where=(grid, guided))
            return out

        return attend

    def at_once(self, attention, q, k, v, options, *where):
        """For vsf. A mask, of which other nodes' attention knows nothing, is there for an offset or unequal entries."""
        n, n_keys = self.n_positive, k.shape[1]
        bias = self.equation.key_bias(q.shape[1], self.lengths, q, *where)
        mask = None if bias is None else pad(self.fitting(bias, attention, n_keys - n), (n, 0))
        attend = lambda q, k, v, mask: attention(q, k, v, options, **({} if mask is None else {"mask": mask}))
        return flipped(self.equation, attend, q, k, v, (mask, None), slice(n, n_keys), 1, where)

    def fits_one_call(self, q, k, options):
        of_one_size = q.shape[0] == 1 and k.shape[1] == 2 * self.n_positive
        return of_one_size and OVERRIDE not in options and self.equation.places is None

    def fitting(self, bias, attention, n_keys):
        """The bias, if this attention takes one."""
        if attention is not _stock_attention or n_keys != bias.shape[-1]:
            raise ValueError(NO_BIAS)
        return bias

    def in_one_call(self, q, k, v, options):
        """Both prompts as rows of one call. With one picture at a time, a fast GPU waits for the host to call."""
        n = self.n_positive
        k, v, q = k.view(2, n, -1), v.view(2, n, -1), q.expand(2, -1, -1) if TAKES_VIEWS else torch.cat((q, q))
        positive, negative = _stock_attention(q, k, v, options).chunk(2)
        return self.equation(positive, negative, out=positive)


def _options_of_rows(options, rows, n_rows):
    """The options as they would be if only these rows had been batched: patches tell rows apart by them."""
    if rows == slice(None):
        return options
    size = n_rows // len(options["cond_or_uncond"])
    kinds = slice(rows.start // size, rows.stop // size)
    return {**options, **{name: options[name][kinds] for name in ("cond_or_uncond", "uuids") if name in options}}
