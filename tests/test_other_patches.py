"""What other nodes put into a model stays in force under NAG, and NAG under it."""
import comfy.controlnet
import comfy.ldm.modules.attention as host
import pytest
import torch

from families import BY_NAME, FAMILIES, FAMILY_AND_STREAM, TEXT
from oracle import sampling
from oracle.equation import Nag, attention
from oracle.sampling import guided_by
from runs import Run, assert_close
from subject import nodes_fixture  # noqa: F401
from test_guidance import model_node

pytestmark = pytest.mark.usefixtures("inference_mode")
UNETS = [BY_NAME["sd15"], BY_NAME["sdxl"]]
RUN = {"cfg": 3.0, "batch": 2, "negative_tokens": 6}  # texts of one length: ComfyUI repeats tokens to batch others
BLOCKS = [("input", 1), ("middle", 0), ("output", 1)]


class ImagePrompt:
    """What IPAdapter does: in some blocks, attention to an image as well, each kind of row to its own.

    `replace` is the patch that ComfyUI calls; `attention` says the same to the oracle.
    """

    def __init__(self, blocks, width):
        generator = torch.Generator().manual_seed(5)
        self.blocks = blocks
        self.images = torch.randn(2, 1, 3, width, generator=generator)  # of positive and negative rows

    def replace(self, q, k, v, options):
        kinds = options["cond_or_uncond"]
        rows = q.shape[0] // len(kinds)
        image = torch.cat([self.images[kind].expand(rows, -1, -1) for kind in kinds])
        assert image.shape[0] == q.shape[0], "the rows are not those that the options speak of"
        attend = lambda k, v: host.optimized_attention(q, k, v, options["n_heads"])
        return attend(k, v) + 0.5 * attend(image[..., : q.shape[-1]], image[..., -q.shape[-1] :])

    def attention(self, attn, x, text, block, kind):
        q = attn.to_q(x)
        z = attention(q, attn.to_k(text), attn.to_v(text), attn.heads)
        if not {block, block[:2]} & set(self.blocks):
            return z
        image = self.images[kind].double().expand(x.shape[0], -1, -1)
        return z + 0.5 * attention(q, image[..., : q.shape[-1]], image[..., -q.shape[-1] :], attn.heads)


class OracleWith:
    """The oracle's forward, with another node's work at hand for each kind of row."""

    def __init__(self, forward, other):
        self.forward, self.other = forward, other

    def __call__(self, net, x, t, cond, negative, nag):
        kind = 1 if nag is None else 0  # in these runs every positive row is guided, and no other
        other = self.other

        class Others:
            @staticmethod
            def attention(attn, x, text, block):
                return other.attention(attn, x, text, block, kind)

        return self.forward(net, x, t, {**cond, "others": Others}, negative, nag)


def oracle_with(other, run, patcher, positive):
    return sampling.sample(
        OracleWith(run.family.forward, other),
        *(patcher, positive, run.negative, run.cfg, run.latent(), run.sigmas(patcher), run.seed),
    )


@pytest.mark.parametrize("family", UNETS, ids=str)
@pytest.mark.parametrize("blocks", [BLOCKS, [(*block, 0) for block in BLOCKS]], ids=["block", "block and index"])
@pytest.mark.parametrize("changes", [{"batch": 2}, RUN], ids=["cfg 1", "cfg 3"])
def test_attention_replaced_by_another_node(nodes, family, blocks, changes):
    run, patcher = Run(family, **changes), family.patcher()
    other = ImagePrompt(blocks, width=128)
    patched = patcher.clone()
    for block in blocks:
        patched.set_model_attn2_replace(other.replace, *block)
    nag = Nag(family.conditioning(11, 5))
    result = run.sample(model_node(nodes, patched, nag, nag_negative=nag.negative))
    assert_close(result, oracle_with(other, run, patcher, guided_by(run.positive, nag)))


class ExtraTokens:
    """An attn2_patch that changes queries and text: queries grow, and a token is added to keys and values."""

    def __init__(self):
        self.token = torch.randn(1, 1, TEXT, generator=torch.Generator().manual_seed(6))

    def patch(self, q, k, v, options):
        token = self.token.expand(k.shape[0], -1, -1)
        return q * 1.25, torch.cat((k, token), 1), torch.cat((v, token * 2), 1)

    def attention(self, attn, x, text, block, kind):
        token = self.token.double().expand(text.shape[0], -1, -1)
        k, v = torch.cat((text, token), 1), torch.cat((text, token * 2), 1)
        return attention(attn.to_q(x * 1.25), attn.to_k(k), attn.to_v(v), attn.heads)


@pytest.mark.parametrize("family", UNETS, ids=str)
def test_text_patched_by_another_node(nodes, family):
    """The patch does to the negative's text what it does to any: z+ and z- differ by the text alone."""
    run, patcher = Run(family, **RUN), family.patcher()
    other = ExtraTokens()
    patched = patcher.clone()
    patched.set_model_attn2_patch(other.patch)
    nag = Nag(family.conditioning(11, 5))
    result = run.sample(model_node(nodes, patched, nag, nag_negative=nag.negative))
    assert_close(result, oracle_with(other, run, patcher, guided_by(run.positive, nag)))


@pytest.mark.parametrize(("family", "stream"), FAMILY_AND_STREAM, ids=str)
def test_attention_override_of_another_node(nodes, family, stream):
    run, patcher = Run(family, **RUN), family.patcher()
    kept = []

    def override(func, *args, **kwargs):
        result = host.attention_basic(*args, **{**kwargs, "_inside_attn_wrapper": True})
        kept.append((result, result.clone()))
        return result

    patched = patcher.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = override
    nag = Nag(run.negative, image_stream=stream)
    result = run.sample(model_node(nodes, patched, nag))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))
    assert kept and all(result.equal(as_returned) for result, as_returned in kept)


class Residuals(comfy.controlnet.ControlBase):
    """A ControlNet that adds the same to every block, shorter than the image, as Flux's may be."""

    def __init__(self, shape, where):
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        self.residuals = {place: [torch.randn(shape, generator=generator), None] for place in where}

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        return {place: list(residuals) for place, residuals in self.residuals.items()}


CONTROLLED = [(family, stream) for family, stream in FAMILY_AND_STREAM if family.name in ("flux_schnell", "sd35_large")]


@pytest.mark.parametrize(("family", "stream"), CONTROLLED, ids=str)
def test_controlnet(nodes, family, stream):
    run, patcher = Run(family, cfg=3.0), family.patcher()
    width, tokens = (48, 20) if family.name == "flux_schnell" else (128, 24)
    control = Residuals((1, tokens, width), ("input", "output"))
    positive = family.conditioning(1, 6, control=control, control_apply_to_uncond=True)
    nag = Nag(run.negative, image_stream=stream)
    result = run.sample(model_node(nodes, patcher, nag), positive)
    assert_close(result, run.oracle(patcher, guided_by(positive, nag)))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_cfg_functions_of_another_node(nodes, family):
    """A sampler_cfg_function sees the guided positive."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    patched = patcher.clone()
    patched.set_model_sampler_cfg_function(lambda args: args["cond"] * args["cond_scale"] - args["uncond"] * 2.0)
    nag = Nag(run.negative)
    result = run.sample(model_node(nodes, patched, nag))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))  # with cfg 3, that is CFG


@pytest.mark.parametrize("family", UNETS, ids=str)
def test_the_last_nag_on_a_model_counts(nodes, family):
    run, patcher = Run(family), family.patcher()
    first, last = Nag(family.conditioning(11, 5), scale=9.0), Nag(run.negative)
    result = run.sample(model_node(nodes, model_node(nodes, patcher, first, nag_negative=first.negative), last))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, last)))
