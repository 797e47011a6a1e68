"""The model itself as the oracle: it runs once for each prompt, in two threads that meet at each attention to a text.

Both go on with the image as the equation guides it. Nothing here knows what a family makes of its text, or where NAG
would get in; it holds where the two runs modulate the image alike.
"""
import threading
from dataclasses import dataclass

import torch
from comfy.patcher_extension import WrappersMP
from comfy.utils import repeat_to_batch_size

from .equation import guide
from .sampling import KEY, Run

OVERRIDE = "optimized_attention_override"
OF_THE_PICTURE = ("ref_latents", "ref_latents_method", "c_concat")  # whatever the negative brings
PATIENCE = 60  # seconds for the other thread to come


@dataclass(frozen=True)
class Tokens:
    """How many tokens a family's attention has.

    Args:
        of_text: of a text, from those of its embedding.
        of_image: of a picture, from the shape of its latent without the batch.
        cross: text and image meet in cross-attention.
    """

    of_image: callable
    of_text: callable = lambda n: n
    cross: bool = False


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
        positive = {**values, "c_crossattn": c_crossattn}
        negative = None if nag is None else self.negative(model, nag, x, t)
        if negative is None:
            return executor(x, t, c_concat, c_crossattn, control, options, **values)
        own = {name: value for name, value in positive.items() if name in OF_THE_PICTURE}
        prompts = positive, {**negative, **own}
        meeting = Meeting(
            [self.tokens.of_text(prompt["c_crossattn"].shape[1]) for prompt in prompts],
            self.tokens.of_image(x.shape[1:]), self.tokens.cross, nag,
        )  # fmt: skip

        def run(which, override):
            return model._apply_model(
                x, t, c_concat, control=control, transformer_options={**options, OVERRIDE: override}, **prompts[which]
            )

        return meeting.run(run)

    def negative(self, model, nag, x, t):
        to_sigma = model.model_sampling.percent_to_sigma
        if not to_sigma(nag.end_percent) <= t[0] <= to_sigma(nag.start_percent):
            return None
        (entry,) = Run(None, model, x, x, None).encoded({"negative": nag.negative})["negative"]
        values = {name: value.cond for name, value in entry["model_conds"].items()}
        return {
            name: repeat_to_batch_size(value, len(x)) if torch.is_tensor(value) else value
            for name, value in values.items()
        }


class Meeting:
    """Two calls that meet."""

    def __init__(self, n_text, n_image, cross, nag):
        self.n_text, self.n_image, self.cross, self.nag = n_text, n_image, cross, nag
        self.met, self.barrier = [None, None], threading.Barrier(2)

    def override(self, which):
        def attend(func, q, k, v, heads, *args, **options):
            options.pop("transformer_options", None)
            by_head = options.pop("skip_output_reshape", False)
            out = func(q, k, v, heads, *args, **options).clone()
            axis = 2 if options.get("skip_reshape") else 1
            n, n_queries, n_keys = self.n_text[which], q.shape[axis], k.shape[axis]
            wanted = (self.n_image, n) if self.cross else (self.n_image + n, self.n_image + n)
            if (n_queries, n_keys) == wanted:
                image = slice(0 if self.cross else n, None)
                out[:, image] = self.meet(which, out[:, image])
            return out.unflatten(-1, (heads, -1)).transpose(1, 2) if by_head else out

        return attend

    def meet(self, which, z):
        self.met[which] = z.double()
        self.barrier.wait(PATIENCE)
        guided = guide(*self.met, self.nag)
        self.barrier.wait(PATIENCE)
        return guided.to(z)

    def run(self, run):
        """The outcome of the positive's call; run(which, override) makes one."""
        outcomes, errors = [None, None], []

        def work(which):
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
