"""NAG in some of a model's blocks: which a text means, and what becomes of the others."""
import functools
import itertools

import pytest
import torch
from torch._dynamo.utils import counters

from compiling import WAYS, compiled
from families import FAMILIES
from mechanisms import BY_NAME, MECHANISM_AND_STREAM, MECHANISMS
from oracle.equation import Nag
from oracle.lockstep import COUNTED
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from subject import conditioning_node, model_node, options, out

pytestmark = pytest.mark.usefixtures("inference_mode")
# The lists of the tiny models, and the numbers of the blocks in them, in order.
LISTS = {
    "sdxl": {"input": [3], "middle": [0], "output": [0, 1]},
    "sd35_large": {"joint": [0, 1, 2]},
    "sd35_medium": {"joint": [0, 1, 2]},
    "sd3_context_processor": {"joint": [0, 1, 2]},
    "flux_dev": {"double": [0, 1], "single": [0, 1, 2]},
    "wan21_i2v": {"blocks": [0, 1]},
    "wan21_vace": {"blocks": [0, 1], "vace": [0, 1]},
    "z_image": {"layers": [0, 1, 2]},
    "qwen_image": {"transformer": [0, 1, 2]},
    "chroma": {"double": [0, 1], "single": [0, 1]},
    "hunyuan_video": {"double": [0, 1], "single": [0, 1]},
    "hidream_without_experts": {"double": [0, 1], "single": [0, 1, 2]},
    "mochi": {"blocks": [0, 1, 2]},
    "cosmos_predict2": {"blocks": [0, 1]},
    "ltx2": {"transformer": [0, 1]},
    "pixart_sigma": {"blocks": [0, 1]},
    "stable_cascade": {"down": [0, 1, 2], "up": [0, 1, 2]},
    "ernie_image": {"layers": [0, 1, 2]},
}
FLUX, SDXL, QWEN, WAN, VACE = (
    BY_NAME[name] for name in ("flux_dev", "sdxl", "qwen_image", "wan21_i2v", "wan21_vace")
)


def labels_of(family):
    return [(name, number) for name, numbers in LISTS[family.name].items() for number in numbers]


def nag_in(family, negative, counted, **more):
    """The oracle's, which acts in the blocks of these numbers, counted through."""
    written = family in FAMILIES
    blocks = [labels_of(family)[number] if written else (COUNTED, number) for number in counted]
    return Nag(negative, blocks=frozenset(blocks), **more)


# ---------------------------------------------------------------- what a text means

BIG_FLUX = [("double", n) for n in range(19)] + [("single", n) for n in range(38)]
BIG_SDXL = [("input", n) for n in (4, 5, 7, 8)] + [("middle", 0)] + [("output", n) for n in range(6)]


@pytest.mark.parametrize(
    ("labels", "text", "counted"),
    [
        (BIG_FLUX, "all", range(57)),
        (BIG_FLUX, " ", range(57)),
        (BIG_FLUX, "0-11,18", [*range(12), 18]),
        (BIG_FLUX, " 0 - 11 , 18, ", [*range(12), 18]),
        (BIG_FLUX, "0–2", range(3)),
        (BIG_FLUX, "Double", range(19)),
        (BIG_FLUX, "double_blocks 3-4, single 37", [3, 4, 56]),
        (BIG_FLUX, "single, 0", [0, *range(19, 57)]),
        (BIG_SDXL, "input 4-8", range(4)),
        (BIG_SDXL, "input 0-5", range(2)),
        (BIG_SDXL, "middle, output 3", [4, 8]),
        (BIG_SDXL, "10", [10]),
        ([("double", 0), ("single", 0)], "double_stream_blocks", [0]),
    ],
)
def test_reading(patches, labels, text, counted):
    assert patches("blocks").chosen(text, labels) == {labels[number] for number in counted}


@pytest.mark.parametrize("text", ["a b", "4-3", "-3", "1.5", "all 3", ",", "3 4", "double 1 2", "0..4", 3])
def test_unreadable(nodes, patches, text):
    with pytest.raises(ValueError, match="in blocks can't be read. Write \"all\", or numbers"):
        patches("blocks").check(text)
    if isinstance(text, str):
        for use in (nodes.NAGOptions.validate_inputs, functools.partial(out, nodes.NAGOptions)):
            with pytest.raises(ValueError, match="in blocks can't be read"):
                use(blocks=text)


@pytest.mark.parametrize(
    ("labels", "text", "there_is"),
    [
        (BIG_FLUX, "57", "double 0 to 18 and single 0 to 37, counted through 0 to 56."),
        (BIG_FLUX, "0, single 0-38", "double 0 to 18 and single 0 to 37, counted through 0 to 56."),
        (BIG_FLUX, "middle", "double 0 to 18 and single 0 to 37, counted through 0 to 56."),
        (BIG_SDXL, "input 3", "input 4 to 5, 7 to 8, middle 0 and output 0 to 5, counted through 0 to 10."),
    ],
)
def test_what_is_not_there(patches, labels, text, there_is):
    with pytest.raises(ValueError, match=there_is):
        patches("blocks").chosen(text, labels)


@pytest.mark.parametrize("family", MECHANISMS, ids=str)
def test_a_models_blocks(patches, family):
    model, models = family.patcher().model, patches("models")
    adapter = models.find_adapter(model)
    assert list(adapter.labelled(model.diffusion_model)) == labels_of(family)
    n = len(labels_of(family))
    assert models.acting_blocks(adapter, model, "all") == (n, n)
    assert models.acting_blocks(adapter, model, "1") == (1, n)
    assert models.acting_blocks(adapter, model, ", ".join(LISTS[family.name])) == (n, n)


# ---------------------------------------------------------------- what it does


def in_blocks(nodes, patcher, text, **more):
    """The model with NAG in the blocks of this text, given its negative by the sampler."""
    nag = Nag(None, **more)
    return model_node(nodes, patcher, nag, options=options(nodes, nag, blocks=text))


def choices(n):
    """Texts, and the numbers of the blocks that they mean."""
    ends = {"0": [0], str(n - 1): [n - 1]}
    return ends if n == 2 else ends | {f"0, {n - 1}": [0, n - 1], f"1-{n - 2}": range(1, n - 1)}


CASES = [
    pytest.param(family, stream, text, counted, id=f"{family}-{stream}-{text}")
    for family, stream in MECHANISM_AND_STREAM
    for text, counted in choices(len(labels_of(family))).items()
]
CASES.append(pytest.param(FLUX, "separate", "2, 4", [2, 4], id="flux_dev-separate-with one between"))


@pytest.mark.parametrize(("family", "stream", "text", "counted"), CASES)
@pytest.mark.parametrize("by_conditioning", [False, True], ids=["model", "conditioning"])
def test_against_the_oracle(nodes, family, stream, text, counted, by_conditioning):
    run, patcher = Run(family, steps=2, cfg=3.0 if by_conditioning else 1.0), family.patcher()
    nag = nag_in(family, family.conditioning(11, 5), counted, image_stream=stream)
    chosen = {"options": options(nodes, nag, blocks=text)}
    if by_conditioning:
        result = run.sample(patcher, conditioning_node(nodes, run.positive, nag, **chosen))
    else:
        result = run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative, **chosen))
    expected = run.oracle(patcher, guided_by(run.positive, nag))
    assert difference(run.sample(patcher), expected) > 1e-5
    assert_close(result, expected)


@pytest.mark.parametrize("name", ["sana", "sana_sprint"])
@pytest.mark.parametrize("number", [0, 1])
def test_blocks_of_sana(nodes, name, number):
    family = BY_NAME[name]
    run, patcher = Run(family, steps=2), family.patcher()
    nag = Nag(family.conditioning(11, 5), blocks=frozenset({(COUNTED, number)}))
    chosen = {"nag_negative": nag.negative, "options": options(nodes, nag, blocks=f"blocks {number}")}
    result = run.sample(model_node(nodes, patcher, nag, **chosen))
    expected = run.oracle(patcher, guided_by(run.positive, nag))
    assert difference(run.sample(patcher), expected) > 1e-5
    assert_close(result, expected)


@pytest.mark.parametrize("family", [FLUX, SDXL, VACE], ids=str)
def test_all_by_their_names_is_all(nodes, family):
    run, patcher = Run(family, steps=2), family.patcher()
    guided = lambda text: run.sample(in_blocks(nodes, patcher, text))
    assert torch.equal(guided(", ".join(LISTS[family.name])), guided("all"))


@pytest.mark.parametrize("name", ["flux_dev", "qwen_image", "hunyuan_video", "hidream_without_experts", "sd35_medium"])
@pytest.mark.parametrize("hidden", [0, 2], ids=["without a mask", "with a mask"])
def test_with_and_without_log_sum_exps(nodes, name, hidden):
    """Attention of another node's has none. A mask hides the last tokens of each prompt."""
    family = BY_NAME[name]
    if hidden and family in FAMILIES:
        pytest.skip("its oracle has no masks of the negative")
    of_text = {"hidden": hidden} if hidden else {}
    run, patcher, positive = Run(family, steps=2), family.patcher(), family.conditioning(1, 6, **of_text)
    last = len(labels_of(family)) - 1
    nag = nag_in(family, family.conditioning(11, 5, **of_text), [last])
    expected = run.oracle(patcher, guided_by(positive, nag))
    chosen = {"nag_negative": nag.negative, "options": options(nodes, nag, blocks=f"{last}")}
    for model in (patcher, Attended().on(patcher)):
        assert_close(run.sample(model_node(nodes, model, nag, **chosen), positive), expected)


class Attended:
    """An attention override that notes of how many queries and keys each call is."""

    def __init__(self):
        self.sizes = []

    def on(self, patcher):
        patched = patcher.clone()
        patched.model_options["transformer_options"]["optimized_attention_override"] = self
        return patched

    def __call__(self, func, q, k, v, heads, *args, **kwargs):
        axis = 2 if kwargs.get("skip_reshape") else 1
        self.sizes.append((q.shape[axis], k.shape[axis]))
        return func(q, k, v, heads, *args, **kwargs)


@pytest.mark.parametrize(("family", "of_others"), [(FLUX, 4), (QWEN, 2), (WAN, 3), (SDXL, 10)], ids=str)
def test_nothing_is_left_of_it_behind_the_last(nodes, family, of_others):
    """of_others: how many times the other blocks attend, each as without NAG."""
    run, patcher, plain, first = Run(family, steps=1), family.patcher(), Attended(), Attended()
    run.sample(plain.on(patcher))
    run.sample(first.on(in_blocks(nodes, patcher, "0")))
    assert first.sizes[-of_others:] == plain.sizes[-of_others:]
    assert first.sizes[:-of_others] != plain.sizes[:-of_others]


def test_one_image_in_front_of_where_nag_acts(nodes):
    """Of image_stream separate, which attends twice in the last block."""
    run, patcher, (shared, separate) = Run(FLUX, steps=1), FLUX.patcher(), (Attended(), Attended())
    run.sample(shared.on(in_blocks(nodes, patcher, "single 2")))
    run.sample(separate.on(in_blocks(nodes, patcher, "single 2", image_stream="separate")))
    assert separate.sizes[:-2] == shared.sizes[:-2]


@pytest.mark.parametrize("family", [SDXL, WAN, QWEN, BY_NAME["pixart_sigma"]], ids=str)
def test_a_block_in_front_is_as_without_nag(nodes, family):
    """Bit for bit, as far as the picture goes."""
    run, patcher, seen = Run(family, steps=1), family.patcher(), []
    block = BLOCK_OF[family.name](patcher.model.diffusion_model)
    handle = block.register_forward_hook(lambda module, args, out: seen.append(out))
    try:
        run.sample(patcher)
        run.sample(in_blocks(nodes, patcher, "1"))
    finally:
        handle.remove()
    plain, guided = (out[-1] if isinstance(out, tuple) else out for out in seen)
    assert torch.equal(plain, guided)


BLOCK_OF = {
    "sdxl": lambda net: net.input_blocks[3][1],
    "wan21_i2v": lambda net: net.blocks[0],
    "qwen_image": lambda net: net.transformer_blocks[0],
    "pixart_sigma": lambda net: net.blocks[0],
}


def test_two_conditionings_with_blocks_of_their_own(nodes):
    run, patcher = Run(FLUX, steps=2, cfg=3.0), FLUX.patcher()
    positives = [FLUX.conditioning(seed, 6) for seed in (21, 22)]
    nags = [nag_in(FLUX, FLUX.conditioning(24 + i, 4), counted) for i, counted in enumerate(([0, 1], [4]))]
    node = lambda positive, nag, text: conditioning_node(nodes, positive, nag, options=options(nodes, nag, blocks=text))
    result = run.sample(patcher, node(positives[0], nags[0], "double") + node(positives[1], nags[1], "single 2"))
    assert_close(result, run.oracle(patcher, [*itertools.chain(*map(guided_by, positives, nags))]))


# ---------------------------------------------------------------- errors


def test_refused_at_the_node(nodes):
    with pytest.raises(ValueError, match="'single 3' in blocks is not in this model. It has double 0 to 1"):
        in_blocks(nodes, FLUX.patcher(), "single 3")


def test_refused_before_sampling(nodes):
    """Here nobody knows the model before the run."""
    run, patcher, attended = Run(SDXL), SDXL.patcher(), Attended()
    chosen = options(nodes, Nag(None), blocks="double")
    positive = out(nodes.NAGConditioning, run.positive, run.negative, options=chosen)
    with pytest.raises(ValueError, match="It has input 3, middle 0 and output 0 to 1, counted through 0 to 3"):
        run.sample(attended.on(patcher), positive)
    assert attended.sizes == []


@pytest.mark.parametrize(("text", "fails"), [("double", True), ("single", False), ("0, 4", False)])
def test_blocks_that_another_node_replaces(nodes, text, fails):
    """The run ends with an error only if none of the chosen blocks came to compute."""
    run, patcher = Run(FLUX, steps=2), FLUX.patcher()
    model = in_blocks(nodes, patcher, text)
    for i in range(2):
        model.set_model_patch_replace(lambda inputs, _: inputs, "dit", "double_block", i)
    if fails:
        with pytest.raises(RuntimeError, match="no attention was guided"):
            run.sample(model)
    else:
        run.sample(model)


# ---------------------------------------------------------------- torch.compile

COMPILED = [pytest.param(BY_NAME[name], stream, id=f"{name}-{stream}") for name, stream in [
    ("sdxl", "shared"), ("sd35_large", "shared"), ("flux_dev", "separate"), ("wan21_i2v", "shared"),
    ("chroma", "shared"), ("pixart_sigma", "shared"),
]]  # fmt: skip
# Each way, and each kind of block, once.
BY_BLOCK = [
    ("sd35_large", "blocks, in one graph"),
    ("flux_dev", "blocks, few guards"),
    ("wan21_t2v", "blocks"),
    ("z_image", "blocks, as patches"),
    ("cosmos_predict2", "whole, in one graph"),
    ("pixart_sigma", "whole, as a patch"),
]


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize(("family", "stream"), COMPILED)
def test_compiled_as_a_whole(nodes, family, stream):
    """A graph for each choice, and no more when it comes again."""
    patcher, last = family.patcher(), len(labels_of(family)) - 1
    models = [in_blocks(nodes, patcher, text, image_stream=stream) for text in ("all", "0", f"{last}")]
    for model in (*models, patcher):
        run = Run(family, steps=2)
        assert_close(run.sample(compiled(model)), run.sample(model))
    seen = counters["stats"]["unique_graphs"]
    for model in (*models, patcher):
        run = Run(family, steps=2, seed=8)
        assert_close(run.sample(compiled(model)), run.sample(model))
    assert counters["stats"]["unique_graphs"] == seen


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize(("name", "way"), BY_BLOCK)
def test_compiled_by_block(nodes, name, way):
    family = BY_NAME[name]
    patcher, run = family.patcher(), Run(family, steps=2)
    for text in ("all", "0", "1"):
        model = in_blocks(nodes, patcher, text)
        assert_close(run.sample(WAYS[way](model, name)), run.sample(model))
    assert_close(run.sample(WAYS[way](patcher, name)), run.sample(patcher))
