"""Models, and releases of ComfyUI, that are not as their family is otherwise."""
import dataclasses

import pytest
import torch

from door_families import BY_NAME, cross
from door_families.builder import TEXT, model
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close
from subject import model_node, out

pytestmark = pytest.mark.usefixtures("inference_mode")

PROJECTED = {"caption_proj_before_connector": True, "caption_projection_first_linear": False}


def test_ltx_video_whose_text_comes_projected(nodes):
    build = model("LTXV", "LTXV", "lightricks.model.LTXVModel", PROJECTED, **cross.LTXV, **PROJECTED)
    family = dataclasses.replace(BY_NAME["ltxv"], build=build, width=32)
    run, patcher = Run(family, cfg=3.0, batch=2), family.patcher()
    nag = Nag(family.conditioning(11, 9))
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative)), expected)
    with pytest.raises(ValueError, match=f"{TEXT} wide.*LTX-Video.*takes 32"):
        out(nodes.NAGModel, patcher, BY_NAME["ltxv"].conditioning(11, 9))


@pytest.mark.parametrize("hidden", [(2, 0), (0, 3), (2, 3)], ids=["in the positive", "in the negative", "in both"])
def test_lumina2_with_hidden_tokens(nodes, hidden):
    """Older ComfyUI leaves them out behind the text's refiner, newer one takes them for text."""
    family = BY_NAME["lumina2"]
    patcher, positive, negative = family.patcher(), *(family.conditioning(i, 8 + i, hidden=hidden[i]) for i in (0, 1))
    tokens = dataclasses.replace(family.tokens, of_text=lengths(family, positive, negative).get)
    family = dataclasses.replace(family, tokens=tokens)
    run, nag = Run(family), Nag(negative)
    expected = run.sample(family.lockstep(), guided_by(positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag, nag_negative=negative), positive), expected)


def lengths(family, *conditionings):
    """How many tokens the model makes of a text, by those that it has."""
    run, made = Run(family, steps=1), {}
    n_image = family.tokens.of_image(family.latent)
    for conditioning in conditionings:
        n = conditioning[0][0].shape[1]
        note = lambda module, args: made.update({n: args[0].shape[1] - n_image})  # noqa: B023
        hook = family.patcher().model.diffusion_model.layers[0].register_forward_pre_hook(note)
        try:
            run.sample(family.patcher(), conditioning)
        except RuntimeError as error:
            if "attn_mask dtype" not in str(error):
                raise
            pytest.skip("this ComfyUI's own attention does not take such a mask")
        finally:
            hook.remove()
    return made


def test_kandinsky5_with_a_part_of_the_video_kept(nodes):
    """ComfyUI itself fails there: it gives the model a mask with as many channels as the latent has."""
    family = BY_NAME["kandinsky5_video"]
    run, patcher = Run(family, steps=1), family.patcher()
    latent = {"samples": run.latent(), "noise_mask": torch.ones(1, 1, *family.latent[1:])}
    said = []
    for each in (patcher, model_node(nodes, patcher, Nag(run.negative))):
        with pytest.raises(RuntimeError) as error:
            run.sample(each, latent=latent)
        said.append(str(error.value))
    assert said[0] == said[1]
