"""What is no error, but not what people want: said in the log, and on the node, when a run starts. The editor says the
same before it, and of what will be an error."""
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..settings import Settings
from ..travelling import PACKAGE
from .request import Request

ZEROED = (
    "The NAG negative is zeroed, as by Conditioning Zero Out: it names nothing, so it takes nothing away. Connect a "
    "prompt that says what the picture should not show."
)
BLANK = (
    "The text of the NAG negative is empty: it names nothing, so it takes nothing away. Write there what the picture "
    "should not show."
)
SAME = "The NAG negative is the same as the positive, so NAG changes nothing. Write there what should not be shown."
TOWARDS = "nag_scale is {:g}. Below 1 NAG moves the picture towards the negative; 1 is off, more moves away from it."
OFF = "{} is {}, which is off, so NAG changes nothing. Raise it, or set what is recommended."
ALL_ZERO = "All strengths of NAG Options are 0, which is off, so NAG changes nothing. Raise one of them."
NOWHERE = (
    "The NAG negative has a strength of 0, or a mask that is 0 everywhere, so NAG changes nothing. Raise the strength, "
    "or draw the mask."
)
NO_STEP = (
    "No step of the sampling lies where NAG acts, so NAG changes nothing. Widen its range: start_percent and "
    "end_percent in NAG Options, nag_sigma_end, or the conditioning's own."
)
REPLACED = "Replaced by {}, so {} is not used. Take one of the two out."
LEFT_BEHIND = "{} keeps the NAG of {} only, so {} is not used. Put this node behind it."
THE_MODELS, THIS_NODES = "the model's NAG", "this node's NAG"
IGNORED = REPLACED.format("NAG Conditioning on the positive", THE_MODELS)
NO_NEGATIVE = (
    "NAG has no negative: this sampler or guider brings none. Connect one to the nag_negative input of the NAG node."
)
NO_POSITIVE = (
    "A model's NAG guides the positive, and this guider has none of that name, but {}. Put NAG Conditioning on the "
    "conditioning that NAG is to guide, in place of this node."
)
NOT_CONNECTED = "NAG has no negative. Connect a prompt to {} that says what the picture should not show."
NOTHING_GIVEN = "Nothing is connected to {}, so this node can't run. Connect {} to it."
NEGATIVE_IS_GUIDED = (
    "The output of NAG Conditioning goes into a sampler's negative, where it has no effect. It belongs in the "
    "positive; what the picture should not show goes into the nag_negative of NAG Conditioning."
)
TWO_NAGS = (
    "ComfyUI's own node Normalized Attention Guidance is on this model, too. It does nothing beside this NAG, since it "
    "needs positive and negative in one model call. Take one of the two out."
)
OTHER_NAG = "{} puts another NAG on this model, and the two can't act together. Take one of the two out."
UNREADABLE = "{} can't be read as a model: the file is broken, or of another kind. Choose another in {}."


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
    if settings.strength == 0:
        return [OFF.format("strength", 0)]
    if settings.options.all_zero:
        return [ALL_ZERO]
    if settings.off:
        return [OFF.format(*(("nag_scale", 1) if settings.nag_scale == 1 else ("nag_alpha", 0)))]
    towards = settings.nag_scale is not None and settings.nag_scale < 1
    return [TOWARDS.format(settings.nag_scale)] if towards else []


def say(request: Request, sentences: list[str], idle: bool = False) -> None:
    """Tell who asked for NAG, also that there is nothing to say, so that they forget what was said before.

    idle: NAG does nothing of use, for what is said.
    """
    for sentence in sentences:
        logging.warning("NAG: %s", sentence)
    request.advise(sentences, idle)


@contextmanager
def telling(requests: Iterator[Request]) -> Iterator[None]:
    """Tell who asked for NAG of an error of NAG's: ComfyUI says that it is the sampler's, in whose run it comes."""
    requests = list(requests)
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if _is_ours(error):
            for request in requests:
                request.fail(str(error))
        raise


def _is_ours(error):
    """Whether this pack has raised an error, and not what it calls."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    ours = frame.f_globals.get("__name__", "").startswith(f"{PACKAGE}.")
    return ours and not isinstance(error, torch.cuda.OutOfMemoryError)


def _same(negatives, positives):
    return len(negatives) == len(positives) and all(
        one.shape == other.shape and torch.equal(one, other.to(one.device)) for one, other in zip(negatives, positives)
    )
