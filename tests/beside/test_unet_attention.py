"""Nodes that change a UNet's attention as IPAdapter, Attention Couple and PAG do, against oracles written by hand."""
import pytest
import torch

from families import BY_NAME, TEXT
from oracle import unet
from oracle.equation import Nag, attention
from oracle.sampling import guided_by
from other_nodes import ORDERS, by_node, in_turn, patched_by
from runs import Run, assert_close, difference
from unet_others import BLOCKS, ImagePrompt

pytestmark = pytest.mark.usefixtures("inference_mode")
SD15, SD2, SDXL = (BY_NAME[name] for name in ("sd15", "sd2", "sdxl"))
BATCH = {"batch": 2}
CFG = {"cfg": 3.0, "batch": 2, "negative_tokens": 6}  # texts of one length: ComfyUI repeats tokens to batch others
at_both_cfgs = pytest.mark.parametrize("changes", [BATCH, CFG], ids=["cfg 1", "cfg 3"])


class ExtraTokens(unet.Others):
    """Two attn2_patches: queries grow, in place, and a token that depends on them is added to keys and values."""

    def __init__(self):
        self.token = torch.randn(1, 1, TEXT, generator=torch.Generator().manual_seed(6))

    def patch(self, patcher):
        """What ComfyUI calls; the rest says the same to the oracle."""
        patched = patcher.clone()
        patched.set_model_attn2_patch(lambda q, k, v, options: (q.mul_(1.25), k, v))
        patched.set_model_attn2_patch(lambda q, k, v, options: (q, *self.added(q, k, v)))
        return patched

    def added(self, q, k, v):
        token = self.token.to(q) * q.abs().mean((1, 2), keepdim=True)
        return torch.cat((k, token), 1), torch.cat((v, token * 2), 1)

    def of_kind(self, kind):
        return self

    def cross_attention(self, attn, x, text, block):
        x = x * 1.25
        k, v = self.added(x, text, text)
        return attention(attn.to_q(x), attn.to_k(k), attn.to_v(v), attn.heads)


def compare_with_oracle_by_hand(nodes, run, patch, other):
    """`patch` puts `other` into a model; every positive row is guided, and no other."""
    patcher, nag = run.family.patcher(), Nag(run.family.conditioning(11, 5))
    positive = guided_by(run.positive, nag)

    def forward(net, x, t, cond, negative, nag):
        others = other.of_kind(1 if nag is None else 0)
        return unet.forward(net, x, t, {**cond, "others": others}, negative, nag)

    expected = run.oracle(patcher, positive, forward=forward)
    assert difference(run.oracle(patcher, positive), expected) > 0.005, "the other node does nothing"
    for order in ORDERS:
        assert_close(run.sample(*order(nodes, patcher, run.positive, nag, patch)), expected)


@pytest.mark.parametrize("family", [SD15, SDXL], ids=str)
@pytest.mark.parametrize("blocks", [BLOCKS, [(*block, 0) for block in BLOCKS]], ids=["block", "block and index"])
@at_both_cfgs
def test_attention_replaced_as_by_ip_adapter(nodes, family, blocks, changes):
    other = ImagePrompt(blocks, width=128)
    patch = in_turn(*(patched_by("set_model_attn2_replace", other.replace, *block) for block in blocks))
    compare_with_oracle_by_hand(nodes, Run(family, **changes), patch, other)


@pytest.mark.parametrize("family", [SD15, SDXL], ids=str)
@at_both_cfgs
def test_text_patched_by_another_node(nodes, family, changes):
    """The patch does to the negative's text what it does to any: z+ and z- differ by the text alone."""
    other = ExtraTokens()
    compare_with_oracle_by_hand(nodes, Run(family, **changes), other.patch, other)


def coupled(patcher):
    """As Attention Couple nodes do: a text for another region rides in rows of its own inside the cross-attention."""
    twice = lambda q, k, v, options: tuple(torch.cat((t, t.flip(1))) for t in (q, k, v))
    patched = patcher.clone()
    patched.set_model_attn2_patch(twice)
    patched.set_model_attn2_output_patch(lambda x, options: sum(x.chunk(2)) / 2)
    return patched


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_texts_that_the_negative_would_not_reach(nodes, cfg):
    run, patcher = Run(SD15, cfg=cfg), SD15.patcher()
    run.sample(coupled(patcher))
    for order in ORDERS:
        with pytest.raises(ValueError, match="Attention Couple.*mask.*NAG Conditioning"):
            run.sample(*order(nodes, patcher, run.positive, Nag(run.negative), coupled))


class Perturbed(unet.Others):
    """In the middle block, each image token attends to nothing but itself."""

    def self_attention(self, attn, x, block):
        return attn.to_v(x) if block[:2] == ("middle", 0) else super().self_attention(attn, x, block)


def with_perturbed_attention_guidance(scale, cfg):
    """The oracle of negative + cfg (positive - negative) + scale (positive - perturbed), positive and perturbed with
    NAG. The samplers do the first two terms, so the third, divided by cfg, goes into the positive."""

    def forward(net, x, t, cond, negative, nag):
        out = unet.forward(net, x, t, cond, negative, nag)
        if nag is None:  # the negative of CFG
            return out
        perturbed = unet.forward(net, x, t, {**cond, "others": Perturbed()}, negative, nag)
        return out + scale / cfg * (out - perturbed)

    return forward


@pytest.mark.parametrize("family", [SD15, SD2, SDXL], ids=str)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_perturbed_attention_guidance_and_cfg(nodes, family, cfg):
    """The paper's second table."""
    run, patcher = Run(family, cfg=cfg, batch=2), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    forward = with_perturbed_attention_guidance(2.0, cfg)
    expected = run.oracle(patcher, guided_by(run.positive, nag), forward=forward)
    pag = by_node("PerturbedAttentionGuidance", scale=2.0)
    for order in ORDERS:
        assert_close(run.sample(*order(nodes, patcher, run.positive, nag, pag)), expected)
