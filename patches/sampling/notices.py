"""What is no error, but not what people want: said in the log, and on the node, when a run starts."""
import logging
from collections.abc import Sequence

import torch

from ..settings import Settings
from .request import Request

ZEROED = (
    "The NAG negative is zeroed, as by Conditioning Zero Out: it names nothing, so it takes nothing away. Connect a "
    "prompt that says what the picture should not show."
)
BLANK = (
    "The text of the NAG negative is empty: it names nothing, so it takes nothing away. Write into it what the picture "
    "should not show."
)
SAME = "The NAG negative is the same as the positive, so NAG changes nothing. Write into it what is not to be shown."
TOWARDS = "nag_scale is {:g}. Below 1 NAG moves the picture towards the negative; 1 is off, more moves away from it."
IGNORED = (
    "The model's NAG is not used in this run: each positive brings a NAG of its own, from NAG Conditioning, which "
    "comes first. Take one of the two out."
)


def of_request(
    request: Request, settings: Settings, negatives: Sequence[torch.Tensor], positives: Sequence[torch.Tensor]
) -> list[str]:
    """What to say of a use of NAG.

    Args:
        settings: the request's, completed.
        negatives, positives: the text embeddings, (batch, tokens, width), of the negative and of what it guides.
    """
    said = []
    if any(tokens.is_meta for tokens in negatives):
        pass  # these have no values; a run on the meta device only counts operations
    elif not any(tokens.any() for tokens in negatives):
        said.append(ZEROED)
    elif request.has_blank_negative():
        said.append(BLANK)
    elif _same(negatives, positives):
        said.append(SAME)
    return said + of_settings(settings)


def of_settings(settings: Settings) -> list[str]:
    """What to say of settings, some of which may be None."""
    towards = settings.nag_scale is not None and settings.nag_scale < 1 and not settings.off
    return [TOWARDS.format(settings.nag_scale)] if towards else []


def say(request: Request, sentences: list[str]) -> None:
    """Tell who asked for NAG, also that there is nothing to say, so that they forget what was said before."""
    for sentence in sentences:
        logging.warning("NAG: %s", sentence)
    request.advise(sentences)


def _same(negatives, positives):
    return len(negatives) == len(positives) and all(
        one.shape == other.shape and torch.equal(one, other.to(one.device)) for one, other in zip(negatives, positives)
    )
