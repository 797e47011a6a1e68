"""The model itself as the oracle: it runs once for each prompt, in two threads that meet at each attention to a text.

Both go on with the image as the equation guides it. Nothing here knows what a family makes of its text, or where NAG
would get in. Where a prompt modulates the image, too, what attends in both is the positive's image.
"""
import re
import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial

import torch
from comfy.patcher_extension import WrappersMP
from comfy.utils import repeat_to_batch_size

from .equation import flipped, flips, guide
from .sampling import KEY, Run

OVERRIDE = "optimized_attention_override"
# Of what the model is given, what is the picture's, whatever the negative brings.
OF_IMAGE = (
    "lq_latent", "degrade_sigma", "global_embed",
    "ref_latents", "ref_latents_method", "c_concat", "latent_shapes", "denoise_mask", "audio_denoise_mask", "guidance",
    "frame_rate", "keyframe_idxs", "guide_attention_entries", "generated_keyframes", "ref_audio", "time_dim_replace",
    "clip_fea", "guiding_frame_index", "ref_latent", "disable_time_r", "image_cond", "c_size", "c_ar",
    "image_meta_size", "local_add_cond", "clip_img", "sca", "crp",
)  # fmt: skip
PAYLOAD, OF_TEXT = "minimax_payload", ("text_token_tags",)  # which holds the text's and the picture's
COUNTED = "counted"  # in the place of the list's name: this knows blocks only in the order in which they run
PATIENCE = 60  # seconds for the other thread to come


@dataclass(frozen=True)
class Tokens:
    """How many tokens a family's attention has.

    Args:
        of_text: of a text, from those of its embedding.
        of_image: of a picture, from the shape of its latent without the batch; of picture and sound, where a model
            makes both.
        cross: text and image meet in cross-attention.
        vector: the path of the blocks, with N for a number, that modulate the image by a vector with the pooled prompt
            in it, and which of their arguments that is. The negative's run has the positive's there.
        image_first: whether it is [image | text].
        one_image: the image is modulated by the pooled prompt, as the text is: in each attention the negative's run has
            the positive's image, which is all that its text gets to know of it.
        projection: the path of the layers, with N for a number, in front of which the prompts meet, the image first;
            None where they do so in the attention.
    """

    of_image: callable
    of_text: callable = lambda n: n
    cross: bool = False
    vector: tuple[str, int] | None = None
    image_first: callable = lambda: False
    one_image: bool = False
    projection: str | None = None


def lockstep_model(patcher, tokens):
    """A clone in whose place the oracle answers; a positive may have been given a Nag by guided_by."""
    exact = patcher.clone()
    exact.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _Lockstep(tokens))
    return exact


class _Lockstep:
    """An APPLY_MODEL wrapper."""

    def __init__(self, tokens):
        self.tokens = tokens

    def __call__(self, executor, x, t, c_concat=None, c_crossattn=None, control=None, options=None, **values):
        nag, model = values.pop(KEY, None), executor.class_obj
        nag = nag and nag.at(t[0])
        positive = {**values, "c_crossattn": c_crossattn}
        negative = None if nag is None else self.negative(model, nag, x, t)
        if negative is None:
            return executor(x, t, c_concat, c_crossattn, control, options, **values)
        own = {name: value for name, value in positive.items() if name in OF_IMAGE}
        if PAYLOAD in positive:
            own[PAYLOAD] = {**positive[PAYLOAD], **{name: negative[PAYLOAD][name] for name in OF_TEXT}}
        prompts = positive, {**negative, **own}
        meeting = Meeting(
            [self.tokens.of_text(text_of(prompt).shape[1]) for prompt in prompts],
            self.tokens.of_image(x.shape[1:]), self.tokens, nag, options.get(OVERRIDE),
        )  # fmt: skip
        hooks = [*self.sharing(model.diffusion_model, meeting), *self.meeting_at(model.diffusion_model, meeting)]

        def run(which, override):
            return model._apply_model(
                x, t, c_concat, control=control, transformer_options={**options, OVERRIDE: override}, **prompts[which]
            )

        try:
            return meeting.run(run)
        finally:
            for hook in hooks:
                hook.remove()

    def sharing(self, model, meeting):
        if self.tokens.vector is None:
            return []
        path, index = self.tokens.vector

        def share(module, args):
            return *args[:index], meeting.positives(args[index]), *args[index + 1 :]

        return [module.register_forward_pre_hook(share) for module in at(path, model)]

    def meeting_at(self, model, meeting):
        def meet(number, module, args):
            features, n_text = args[0].clone(), 0 if self.tokens.cross else meeting.n_text[meeting.here.which]
            image = features[:, : features.shape[1] - n_text]
            image.copy_(meeting.meet(meeting.here.which, image, number=number))
            return (features,)

        layers = at(self.tokens.projection, model)
        return [layer.register_forward_pre_hook(partial(meet, number)) for number, layer in enumerate(layers)]

    def negative(self, model, nag, x, t):
        to_sigma = model.model_sampling.percent_to_sigma
        if not max(to_sigma(nag.end_percent), nag.sigma_end) <= t[0] <= to_sigma(nag.start_percent):
            return None
        (entry,) = Run(None, model, x, x, None).encoded({"negative": nag.negative})["negative"]
        values = {name: value.cond for name, value in entry["model_conds"].items()}
        return {
            name: repeat_to_batch_size(value, len(x)) if torch.is_tensor(value) else value
            for name, value in values.items()
            if name != "c_concat"  # the positive's
        }


def text_of(prompt):
    """Stable Cascade has another name for it."""
    return prompt["clip_text"] if prompt.get("c_crossattn") is None else prompt["c_crossattn"]


def at(path, model):
    """The modules at a path with N for a number, and * for whatever."""
    pattern = re.compile(re.escape(path or "").replace("N", r"\d+").replace(r"\*", ".*"))
    return [module for name, module in model.named_modules() if path and pattern.fullmatch(name)]


def added(mask, n_rows):
    """A mask with all four axes, in float64, as it is added to the scores."""
    if mask.ndim == 2:
        mask = mask[:, None] if len(mask) == n_rows else mask[None]
    mask = mask[:, None] if mask.ndim == 3 else mask
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e9)
    return mask.double()


class Meeting:
    """Two calls that meet.

    Args:
        earlier: an override of another node's, by which they attend.
    """

    def __init__(self, n_text, n_image, tokens, nag, earlier=None):
        self.n_text, self.nag, self.earlier = n_text, nag, earlier
        self.cross, self.one_image, self.image_first = tokens.cross, tokens.one_image, tokens.image_first()
        self.in_attention = tokens.projection is None
        self.n_image = dict(zip(n_image, ("picture", "sound"))) if isinstance(n_image, tuple) else {n_image: "picture"}
        self.met, self.barrier = [None, None], threading.Barrier(2)
        self.here = threading.local()
        self.n_met = Counter(), Counter()  # by modality, in each of the two

    def override(self, which):
        def attend(func, q, k, v, heads, *args, **options):
            options.pop("transformer_options", None)
            by_head = options.pop("skip_output_reshape", False)
            attention = func if self.earlier is None else partial(self.earlier, func)
            axis = 2 if options.get("skip_reshape") else 1
            n, n_queries, n_keys = self.n_text[which], q.shape[axis], k.shape[axis]
            modality = self.n_image.get(n_queries if self.cross else n_queries - n)
            meets = self.in_attention and modality is not None and n_keys == (n if self.cross else n_queries)
            n_image = n_queries if self.cross else n_queries - n
            start = 0 if self.cross or self.image_first else n
            if meets and self.one_image:
                q, k, v = (self.with_positives_image(t, axis, start, n_image) for t in (q, k, v))
            out = attention(q, k, v, heads, *args, **options).clone()
            if meets:
                image = slice(start, start + n_image)
                given = self.keys_and_values(image, n, q, k, v, heads, *args, **options)
                out[:, image] = self.meet(which, out[:, image], modality, given=given)
            return out.unflatten(-1, (heads, -1)).transpose(1, 2) if by_head else out

        return attend

    def meet(self, which, z, modality="picture", number=None, given=None):
        """number: of the block, which may run more than once; None: it is the next. given: see keys_and_values."""
        nag = self.nag.within(COUNTED, self.n_met[which][modality] if number is None else number)
        nag = nag if self.nag.modality in ("both", modality) else None
        self.n_met[which][modality] += 1
        self.met[which] = z.double(), given
        self.barrier.wait(PATIENCE)
        (z_pos, of_positive), (z_neg, of_negative) = self.met
        if flips(nag):
            guided = self.at_once(nag, *of_positive, *of_negative)
        else:
            guided = guide(z_pos, z_neg, nag)
        self.barrier.wait(PATIENCE)
        return guided.to(z)

    def keys_and_values(self, image, n_text, q, k, v, heads, mask=None, *args, skip_reshape=False, **options):
        """For vsf: of a run the image's queries, keys, values, their mask, which of them are the text's; and heads."""
        if not flips(self.nag):
            return None
        if not skip_reshape:
            by_head = lambda t: t.unflatten(-1, (-1, q.shape[-1] // heads)) if t.ndim == 3 else t
            q, k, v = (by_head(t).transpose(1, 2) for t in (by_head(q), k, v))
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        q, k, v = (t.transpose(1, 2).flatten(2).double() for t in (q, k, v))
        if mask is not None:
            mask = added(mask, len(q))
            mask = mask[..., image, :] if not self.cross and mask.shape[-2] > 1 else mask
        text = slice(0, None) if self.cross else slice(n_text) if image.start else slice(image.stop, None)
        return q if self.cross else q[:, image], k, v, mask, text, heads

    def at_once(self, nag, q, k, v, mask, text, heads, _, k_neg, v_neg, mask_neg, text_neg, __):
        masks = mask, None if mask_neg is None else mask_neg[..., text_neg]
        return flipped(q, (k, v), (k_neg[:, text_neg], v_neg[:, text_neg]), heads, nag, masks)

    def with_positives_image(self, t, axis, start, n_image):
        return t.slice_scatter(self.positives(t.narrow(axis, start, n_image)), axis, start, start + n_image)

    def positives(self, value):
        """The positive's, in both runs."""
        self.met[self.here.which] = value
        self.barrier.wait(PATIENCE)
        value = self.met[0]
        self.barrier.wait(PATIENCE)
        return value

    def run(self, run):
        """The outcome of the positive's call; run(which, override) makes one."""
        outcomes, errors = [None, None], []

        def work(which):
            self.here.which = which
            try:
                with torch.inference_mode():
                    outcomes[which] = run(which, self.override(which))
            except BaseException as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return outcomes[0]
