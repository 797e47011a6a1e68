"""Nothing of ours keeps a model, a conditioning, a latent or what NAG made of them alive after a prompt."""
import gc
import itertools
import weakref

import pytest
import torch

from mechanisms import MECHANISM_AND_STREAM, is_here
from runs import Run
from stored import patcher_of, weights_of

pytestmark = pytest.mark.usefixtures("inference_mode")
PROMPTS = 50


class Failure(Exception):
    """Raised inside the model."""


@pytest.fixture
def prompt(nodes, patches):
    """Runs a prompt with things of its own, and gives weak references to them."""

    def prompt(family, stream, by_conditioning, fails):
        run = Run(family, cfg=2.0, steps=2)
        model = patcher_of(family, weights_of(family), torch.float32)
        positive, negative, nag_negative = (family.conditioning(seed, 5) for seed in (1, 2, 3))
        how = patches("settings").Options(image_stream=stream, statistics=True)
        settings, steps = patches("settings").Settings(options=how), []
        request = patches("sampling.request").Request(settings, nag_negative, report=lambda step: steps.append(step))
        if by_conditioning:
            guided, text = model, patches("sampling.entry").guide_conditioning(positive, request)
        else:
            guided, text = patches("sampling.entry").guide_model(model, request), positive
        latent = None
        if fails:
            list(model.model.diffusion_model.children())[-1].register_forward_pre_hook(_fail)
        try:
            latent = run.sample(guided, text, negative)
        except Failure:
            assert fails
        tensors = [tokens for entries in (positive, negative, nag_negative) for tokens, _ in entries]
        things = [model, guided, model.model, model.model.diffusion_model, request, request.report, *tensors]
        return [weakref.ref(thing) for thing in things + ([] if fails else [latent])]

    return prompt


def _fail(*_):
    raise Failure


def test_all_is_gone_after_fifty_prompts(prompt):
    here = [(family, stream) for family, stream in MECHANISM_AND_STREAM if is_here(family)]
    kinds = itertools.cycle(itertools.product(here, [False, True], [False, True]))
    mixed = itertools.islice(kinds, 0, None, 7)  # which has no factor in common with the number of kinds
    of_prompts = [prompt(*kind, *how) for kind, *how in itertools.islice(mixed, PROMPTS)]
    gc.collect()
    left = [type(reference()).__name__ for reference in itertools.chain(*of_prompts) if reference() is not None]
    assert not left
