"""What else a prompt brings in families with several encoders of the text, or with a pooled output that modulates."""
import dataclasses

import pytest
import torch

from door_families import BY_NAME
from door_families import pooled as table
from oracle.equation import Nag
from oracle.lockstep import Tokens
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from subject import conditioning_node, model_node, out

pytestmark = pytest.mark.usefixtures("inference_mode")
HUNYUAN_VIDEO = BY_NAME["hunyuan_video"]
lengths = pytest.mark.parametrize("lengths", [(6, 4), (5, 11), (8, 8)], ids=str)


def check_exact(nodes, family, lengths, **more):
    run, patcher = Run(family, positive_tokens=lengths[0], negative_tokens=lengths[1], **more), family.patcher()
    nag = Nag(run.negative)
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert difference(run.sample(patcher), expected) > 1e-3
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)


@lengths
def test_a_guiding_frame(nodes, lengths):
    """The first frame is modulated as what is not noisy, and where ComfyUI has the text first, so is the text."""
    family = dataclasses.replace(HUNYUAN_VIDEO, inputs=table.guiding_frame)
    check_exact(nodes, family, lengths)


@lengths
def test_a_reference_image(nodes, lengths):
    """ComfyUI can't do that for a batch."""
    family = dataclasses.replace(
        HUNYUAN_VIDEO,
        inputs=lambda: {"guidance": 4.0, "ref_latent": torch.randn(1, 16, 1, 6, 8)},
        tokens=table.of_hunyuan(2, one_image=True, further=12),
    )
    check_exact(nodes, family, lengths)


@pytest.mark.parametrize("hidden", [(2, 0), (0, 3), (2, 3)], ids=["in the positive", "in the negative", "in both"])
@pytest.mark.parametrize("name", ["hunyuan_video", "hunyuan_image_distilled"])
def test_hidden_tokens(nodes, name, hidden):
    """ComfyUI can't do that for a batch."""
    family = BY_NAME[name]
    run, patcher = Run(family, cfg=3.0), family.patcher()
    positive, negative = (family.conditioning(i, n, hidden=h) for i, (n, h) in enumerate(zip((8, 7), hidden)))
    nag = Nag(negative)
    expected = run.sample(family.lockstep(), guided_by(positive, nag))
    assert_close(run.sample(patcher, conditioning_node(nodes, positive, nag)), expected)
    seen = Nag(family.conditioning(1, 7))
    assert hidden[1] == 0 or difference(run.sample(family.lockstep(), guided_by(positive, seen)), expected) > 1e-3


MINIMAX_REFERENCES = {  # what the positive brings, how many tokens more there are
    "none": (dict, 0),
    "first frame": (
        lambda: {
            "minimax_keyframes": [{"latent": torch.randn(1, 24, 1, 4, 6), "resolved_frame_index": 0}],
            "minimax_frame_count": 9,
        },
        6,
    ),
    "picture": (
        lambda: {
            "minimax_refs": [{"kind": "image", "latent": torch.randn(1, 24, 1, 4, 4), "latent_h": 4, "latent_w": 4}]
        },
        4,
    ),
}


@lengths
@pytest.mark.parametrize(("brings", "tokens"), MINIMAX_REFERENCES.values(), ids=MINIMAX_REFERENCES)
def test_picture_and_sound_in_one_sequence(nodes, lengths, brings, tokens):
    """Of references, the negative's run gets the positive's."""
    family = dataclasses.replace(
        BY_NAME["minimax_h3"], inputs=brings, tokens=Tokens(lambda latent: table.N_MINIMAX + tokens)
    )
    check_exact(nodes, family, lengths)


def test_a_negative_that_brings_no_reference(nodes):
    """As where a node adds them to the positive alone."""
    brings, tokens = MINIMAX_REFERENCES["picture"]
    alone = BY_NAME["minimax_h3"]
    family = dataclasses.replace(alone, inputs=brings, tokens=Tokens(lambda latent: table.N_MINIMAX + tokens))
    run, patcher = Run(family), family.patcher()
    nag = Nag(alone.conditioning(2, 5))
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag), negative=nag.negative), expected)


@pytest.mark.parametrize("name", ["hunyuan_video", "hidream"])
def test_a_negative_without_a_pooled_output(nodes, name):
    family = BY_NAME[name]
    with pytest.raises(ValueError, match=r"pooled output is missing, but this model \(H.* takes 20\."):
        out(nodes.NAGModel, family.patcher(), [[torch.zeros(1, 4, family.width), {}]])
