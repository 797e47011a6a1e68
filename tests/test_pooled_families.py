"""What else a prompt brings in families with several encoders of the text, or with a pooled output that modulates."""
import dataclasses

import pytest
import torch

from door_families import BY_NAME
from door_families import pooled as table
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from subject import model_node

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
