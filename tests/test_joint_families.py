"""What comes with a prompt, and how a run can end, in families whose negative waits at the doors."""
import dataclasses

import pytest
import torch

from door_families import BY_NAME, JOINT, POOLED
from door_families import joint as table
from door_families.builder import DoorFamily, model, references
from door_families.pooled import ONE_ROW
from oracle.equation import Nag
from oracle.lockstep import Tokens
from oracle.sampling import guided_by
from runs import Run, assert_close, custom_sample, difference
from stock import stock
from subject import conditioning_node, model_node, out
from traces import Everything, Failure

pytestmark = pytest.mark.usefixtures("inference_mode")
every_family = pytest.mark.parametrize("family", [*JOINT, *POOLED, *ONE_ROW], ids=str)

MASKED = [BY_NAME[name] for name in ("qwen_image", "qwen_image_edit_2511", "mage_flow", "ideogram4", "lens")]
KREA_WITHOUT_METHOD = dataclasses.replace(
    BY_NAME["krea2"], build=model("Krea2", "Krea2", table.KREA, ("default_ref_method",), **table.KREA_2)
)
REFERENCES = [  # a family, the shape of a reference image's latent, how many tokens it has, what the node offers
    (BY_NAME["qwen_image"], (16, 1, 6, 4), 6, ("offset", "index", "index_timestep_zero", "negative_index")),
    (BY_NAME["flux2_klein"], (128, 2, 3), 6, ("offset", "index", "index_timestep_zero", "uxo")),
    (KREA_WITHOUT_METHOD, (16, 1, 6, 4), 6, ("index", "index_timestep_zero")),
]


@pytest.mark.parametrize(
    ("family", "shape", "tokens", "method"),
    [(*row, method) for *row, methods in REFERENCES for method in methods],
    ids=lambda value: str(value) if isinstance(value, (str, DoorFamily)) else "",
)
def test_reference_images(nodes, family, shape, tokens, method):
    """The picture's are the positive's; the negative brings others, as where a node encodes them with each prompt."""
    of_picture = family.tokens.of_image
    both = Tokens(lambda latent: of_picture(latent) + 2 * tokens)
    family = dataclasses.replace(family, inputs=references(shape, shape, method=method), tokens=both)
    run, patcher = Run(family, negative_tokens=9, batch=2), family.patcher()
    nag = Nag(run.negative)
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert difference(run.sample(patcher), expected) > 1e-3
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)


@pytest.mark.parametrize("hidden", [(2, 0), (0, 3), (2, 3)], ids=["in the positive", "in the negative", "in both"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("family", MASKED, ids=str)
def test_hidden_tokens(nodes, family, batch, hidden):
    run, patcher = Run(family, cfg=3.0, batch=batch), family.patcher()
    positive, negative = (family.conditioning(i, 8, hidden=n) for i, n in enumerate(hidden))
    nag = Nag(negative)
    expected = run.sample(family.lockstep(), guided_by(positive, nag))
    assert_close(run.sample(patcher, conditioning_node(nodes, positive, nag)), expected)


@pytest.mark.parametrize("family", [*JOINT, *POOLED], ids=str)
@pytest.mark.parametrize("lengths", [(9, 9), (9, 5)], ids=["alike", "shorter"])
def test_two_regions_with_a_negative_each(nodes, family, lengths):
    """Where the negatives have as many tokens, ComfyUI puts both regions into one model call."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    mask = torch.zeros(1, 64, 96)
    mask[..., :32] = 1.0
    in_region = lambda positive, left: stock(
        "ConditioningSetMask", conditioning=positive, mask=mask if left else 1 - mask, strength=1.0,
        set_cond_area="default",
    )[0]  # fmt: skip
    parts = [
        (family.conditioning(21 + i, 6), Nag(family.conditioning(31 + i, n)), i == 0) for i, n in enumerate(lengths)
    ]
    regions = lambda guide: [entry for part, nag, left in parts for entry in in_region(guide(part, nag), left)]
    expected = run.sample(family.lockstep(), regions(guided_by))
    assert_close(run.sample(patcher, regions(lambda part, nag: conditioning_node(nodes, part, nag))), expected)


@every_family
@pytest.mark.parametrize(
    ("cfg", "off"),
    # With cfg, ComfyUI would put both prompts into one call where they have as many tokens, as Flux.2's always have.
    [(1.0, {"scale": 1.0}), (3.0, {"scale": 1.0}), (1.0, {"start_percent": 1.0})],
    ids=["scale 1", "scale 1, cfg", "no step in range"],
)
def test_off(nodes, family, cfg, off):
    run, patcher = Run(family, cfg=cfg), family.patcher()
    plain, nag = run.sample(patcher), Nag(run.negative, **off)
    assert torch.equal(run.sample(model_node(nodes, patcher, nag)), plain)
    assert torch.equal(run.sample(patcher, conditioning_node(nodes, run.positive, nag)), plain)


@every_family
@pytest.mark.parametrize("fails", [False, True], ids=["a run", "failed in the last block"])
def test_no_trace(nodes, patches, family, fails):
    run, patcher = Run(family, cfg=3.0, steps=2), family.patcher()
    positive, negative = run.positive, run.negative
    plain = run.sample(patcher, positive, negative)
    before = Everything(patcher, positive, negative)
    guided = model_node(nodes, patcher, Nag(negative))
    of_node = Everything(guided, positive)
    if fails:
        blocks = patches("models").find_adapter(patcher.model).blocks(patcher.model.diffusion_model)

        def fail(*_):
            raise Failure

        handle = blocks[-1].register_forward_hook(fail)
        try:
            with pytest.raises(Failure):
                run.sample(guided, positive, negative)
        finally:
            handle.remove()
    else:
        run.sample(guided, positive, negative)
    assert before.is_as_before()
    assert of_node.is_as_before()
    assert torch.equal(run.sample(patcher, positive, negative), plain)


@every_family
def test_whose_values(patches, family):
    model = family.patcher().model
    strength = patches("models").find_adapter(model).recommended(model)
    assert (strength.nag_scale, strength.nag_tau, strength.nag_alpha) == family.recommended


@pytest.mark.parametrize("name", ["z_image", "chroma", "hunyuan_video"])
def test_auto_stops_where_that_is_recommended(nodes, patches, name):
    """Unless NAG Options says when, which those that the editor adds for statistics do not."""
    run, patcher = Run(BY_NAME[name], steps=5), BY_NAME[name].patcher()
    sigma = patches("models").find_adapter(patcher.model).recommended(patcher.model).nag_sigma_end
    assert 0.5 < sigma < 1
    numbers = {"scale": 4.0, "tau": 2.0, "alpha": 0.5}
    strength = {"nag_scale": 4.0, "nag_tau": 2.0, "nag_alpha": 0.5}
    exact = [
        run.sample(BY_NAME[name].lockstep(), guided_by(run.positive, Nag(run.negative, **numbers, sigma_end=end)))
        for end in (sigma, 0.0)
    ]
    assert difference(*exact) > 1e-3
    whole, silent = (out(nodes.NAGOptions, 0.0, end, "shared") for end in (1.0, "auto"))
    assert_close(run.sample(out(nodes.NAGModel, patcher, **strength)), exact[0])
    assert_close(run.sample(out(nodes.NAGModel, patcher, **strength, options=silent)), exact[0])
    assert_close(run.sample(out(nodes.NAGModel, patcher, **strength, options=whole)), exact[1])
    assert_close(run.sample(patcher, out(nodes.NAGConditioning, run.positive, run.negative, **strength)), exact[0])


NAMES = {
    "lumina2": "Lumina 2", "z_image": "Z-Image", "z_image_pixel": "Z-Image", "qwen_image": "Qwen-Image",
    "mage_flow": "MageFlow", "chroma": "Chroma", "chroma_radiance": "Chroma Radiance", "flux2_klein": "Flux.2 Klein",
    "flux2_dev": "Flux.2", "longcat": "LongCat-Image", "ovis": "Ovis-Image", "krea2": "Krea 2",
    "ideogram4": "Ideogram 4", "omnigen2": "OmniGen2", "boogu": "Boogu", "auraflow": "AuraFlow",
    "cogvideox": "CogVideoX", "pixeldit": "PixelDiT", "pid": "PiD",
    "lens": "Lens", "joyimage": "JoyImage",
}  # fmt: skip


@pytest.mark.parametrize(("name", "called"), NAMES.items())
def test_what_it_is_called(patches, name, called):
    model = BY_NAME[name].patcher().model
    assert patches("models").find_adapter(model).family(model) == called


@every_family
def test_embedding_of_another_text_encoder(nodes, family):
    run, patcher = Run(family), family.patcher()
    negative = [[torch.randn(1, 4, 768), {"pooled_output": torch.randn(1, 20)}]]
    said = rf"768.*CLIP-L.*takes {table.TEXT}.*Encode the negative with"
    with pytest.raises(ValueError, match=said):
        out(nodes.NAGModel, patcher, negative)
    with pytest.raises(ValueError, match=said):
        run.sample(patcher, out(nodes.NAGConditioning, run.positive, negative))


def test_newbie_is_refused(nodes):
    family = DoorFamily(
        "newbie",
        model("Lumina2", "Lumina2", table.NEXT_DIT, ("clip_text_dim",), **table.LUMINA, clip_text_dim=20),
        None, None, (16, 8, 12), masked=True,
    )  # fmt: skip
    run, patcher = Run(family), family.patcher()
    with pytest.raises(ValueError, match=r"NextDiT, and NAG can't guide it: the pooled output .*\(NewBie\)"):
        out(nodes.NAGModel, patcher)
    with pytest.raises(ValueError, match="NewBie"):
        run.sample(patcher, out(nodes.NAGConditioning, run.positive, run.negative))


OMNI = DoorFamily(
    "omni",
    model("Lumina2", "ZImage", table.NEXT_DIT, ("siglip_feat_dim",), **table.Z_IMAGE, siglip_feat_dim=16),
    None, None, (16, 8, 12),
    tokens=BY_NAME["z_image"].tokens,
)  # fmt: skip
BRINGS = {
    "images": {"reference_latents": [torch.ones(1, 16, 4, 4)]},
    "prompts": {"reference_latents_text_embeds": [torch.ones(1, 8, table.TEXT)]},
}


@pytest.mark.parametrize("brings", BRINGS.values(), ids=BRINGS)
@pytest.mark.parametrize("of", ["positive", "NAG negative"])
def test_omni_is_refused(nodes, brings, of):
    run, patcher = Run(OMNI), OMNI.patcher()
    positive, negative = (
        OMNI.conditioning(i, 6, **(brings if of == name else {})) for i, name in enumerate(("positive", "NAG negative"))
    )
    said = rf"The {of} brings what NAG can't guide yet, .*Z-Image Omni"
    with pytest.raises(ValueError, match=said):
        run.sample(out(nodes.NAGModel, patcher, negative), positive, run.negative)
    with pytest.raises(ValueError, match=said):
        run.sample(patcher, out(nodes.NAGConditioning, positive, negative))


def test_omni_without_references(nodes):
    run, patcher = Run(OMNI), OMNI.patcher()
    nag = Nag(run.negative)
    expected = run.sample(OMNI.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)


@pytest.mark.parametrize("guider", ["CFGGuider", "DualModelGuider"])
def test_a_pass_without_a_prompt(nodes, guider):
    """Ideogram 4's own unconditional pass, by the same weights or by another model's."""
    family = BY_NAME["ideogram4"]
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag, nothing = Nag(run.negative), [[None, {}]]

    def sample(model, positive):
        given = {"model": model, "positive": positive, "cfg": run.cfg, "negative": nothing}
        if guider == "DualModelGuider":
            given["model_negative"] = patcher
        return custom_sample(run, model, stock(guider, **given)[0])

    expected = sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(sample(model_node(nodes, patcher, nag, nag_negative=run.negative), run.positive), expected)
    assert_close(sample(patcher, conditioning_node(nodes, run.positive, nag)), expected)
    with pytest.raises(ValueError, match="negative has no text"):
        sample(model_node(nodes, patcher, nag), run.positive)


def test_longer_than_flux2_pads_to(nodes):
    """It pads to 512 tokens."""
    family = BY_NAME["flux2_dev"]
    run, patcher = Run(family, negative_tokens=530, steps=2), family.patcher()
    nag = Nag(run.negative)
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)
