"""What a user reads when something can't work."""
import asyncio
import importlib
import re

import comfy.ldm.modules.attention
import comfy.supported_models
import execution
import nodes as comfy_nodes
import pytest
import torch

from door_families import BY_NAME as BY_DOOR
from families import BY_NAME, FAMILIES, POOLED, TEXT
from runs import Run, custom_sample
from stock import stock
from strangers import Unknown, unknown_model
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
SDXL = BY_NAME["sdxl"]
STRENGTH_NODES = ("NAGModel", "NAGConditioning", "NAGSampler", "NAGGuider", "NAGCFGGuider")


def test_unsupported_model(nodes):
    with pytest.raises(ValueError, match="Unknown.*README lists the models"):
        out(nodes.NAGModel, unknown_model())


def test_unsupported_model_with_conditioning(nodes):
    """Here nobody knows the model before the run."""
    run, patcher = Run(SDXL), SDXL.patcher()
    positive = out(nodes.NAGConditioning, run.positive, run.negative)
    known = patcher.model.diffusion_model
    patcher.model.diffusion_model = Unknown()
    try:
        with pytest.raises(ValueError, match="Unknown"):
            run.sample(patcher, positive)
    finally:
        patcher.model.diffusion_model = known


def call_with(nodes, name, **settings):
    run, patcher = Run(SDXL), SDXL.patcher()
    inputs = {
        "NAGModel": (patcher,),
        "NAGConditioning": (run.positive, run.negative),
        "NAGSampler": (
            *(patcher, 0, 2, 1.0, "euler", "simple", run.positive, run.negative), {"samples": run.latent()}, 1.0
        ),
        "NAGGuider": (patcher, run.positive, run.negative),
        "NAGCFGGuider": (patcher, run.positive, run.negative, run.negative, 1.0),
    }
    return out(getattr(nodes, name), *inputs[name], **settings)


@pytest.fixture
def refused(nodes, monkeypatch):
    """The inputs of a node whose values ComfyUI refuses before a prompt runs, each as often as it says so."""

    def refused(name, **values):
        node = getattr(nodes, name)
        monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, name, node)
        prompt = {"nag": {"class_type": name, "inputs": values}}
        _, errors, _ = asyncio.run(execution.validate_inputs("prompt", prompt, "nag", {}))
        return [e["extra_info"]["input_name"] for e in errors if e["type"] != "required_input_missing"]

    return refused


OUT_OF_RANGE = [
    ("nag_scale", -0.1), ("nag_scale", 100.1), ("nag_scale", float("nan")), ("nag_tau", 0.9), ("nag_tau", 10.1),
    ("nag_alpha", -0.1), ("nag_alpha", 1.1), ("strength", -0.1), ("strength", 2.1),
]  # fmt: skip


@pytest.mark.parametrize("node", STRENGTH_NODES)
@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
@pytest.mark.parametrize("as_text", [False, True], ids=["number", "text"])
def test_out_of_range(nodes, refused, node, name, value, as_text):
    value = str(value) if as_text else value
    with pytest.raises(ValueError, match=name):
        call_with(nodes, node, **{name: value})
    others = {"nag_scale": "auto", "nag_tau": 2.5, "nag_alpha": "0.25", "strength": 1}
    assert refused(node, **{**others, name: value}) == [name]


@pytest.mark.parametrize("node", ["NAGGuider", "NAGCFGGuider"])
@pytest.mark.parametrize(("name", "value"), [*OUT_OF_RANGE, ("nag_sigma_end", -0.1), ("nag_sigma_end", 20.1)])
def test_guiders_out_of_range(nodes, refused, node, name, value):
    settings = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}
    with pytest.raises(ValueError, match=name):
        call_with(nodes, node, **{**settings, name: value})
    assert refused(node, **{**settings, name: value}) == [name]


@pytest.mark.parametrize("node", STRENGTH_NODES)
@pytest.mark.parametrize("name", ["nag_scale", "nag_tau", "nag_alpha", "strength"])
@pytest.mark.parametrize("value", ["abc", "1,5,2", "auto 5"])
def test_not_a_number(nodes, refused, node, name, value):
    with pytest.raises(ValueError, match=f"{name}.*auto.*{re.escape(repr(value))}"):
        call_with(nodes, node, **{name: value})
    assert refused(node, **{name: value}) == [name]


@pytest.mark.parametrize("node", STRENGTH_NODES)
@pytest.mark.parametrize("value", ["auto", " AUTO ", None, "3", "3.0", 3, 3.0, "", "  ", "2,5", " 2,5 ", "25e-1"])
def test_what_counts_as_a_number(nodes, refused, node, value):
    assert refused(node, nag_scale=value) == []
    call_with(nodes, node, nag_scale=value)


@pytest.mark.parametrize(
    ("value", "number"),
    [("auto", None), (None, None), ("", None), (" ", None), ("1,5", 1.5), (" 1.5\n", 1.5), (2, 2.0), ("1", 1.0)],
)
def test_what_a_value_stands_for(pack, value, number):
    inputs = importlib.import_module(f"{pack.__name__}.nodes.inputs")
    settings = inputs.settings(nag_scale=value, nag_tau=value, nag_sigma_end=value, strength=value)
    assert settings.nag_scale == settings.nag_tau == settings.nag_sigma_end == number and settings.nag_alpha is None
    assert settings.strength == (1.0 if number is None else number)


@pytest.mark.parametrize(
    ("values", "said"),
    [((-0.1, 1.0), "start_percent"), ((0.0, 1.1), "end_percent"), ((0.6, 0.4), "start_percent.*end_percent")],
)
def test_options_out_of_range(nodes, values, said):
    with pytest.raises(ValueError, match=said):
        out(nodes.NAGOptions, *values, "shared")
    with pytest.raises(ValueError, match=said):
        nodes.NAGOptions.validate_inputs(*values)


def test_unknown_image_stream(nodes):
    with pytest.raises(ValueError, match="image_stream.*shared, separate.*'both'"):
        out(nodes.NAGOptions, 0.0, 1.0, "both")


def test_unknown_modality(nodes):
    with pytest.raises(ValueError, match="modality.*both, picture, sound.*'smell'"):
        out(nodes.NAGOptions, 0.0, 1.0, "shared", False, "smell")


def test_options_of_a_graph_that_knows_no_modality(nodes, patches):
    options = out(nodes.NAGOptions, 0.0, 1.0, "shared", True)
    assert options == patches("settings").Options(0.0, 1.0, "shared", True, "both")


EMPTY = {"empty": [], "without text": [[None, {"pooled_output": torch.zeros(1, POOLED)}]]}


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY.keys())
def test_empty_negative(nodes, empty):
    run, patcher = Run(SDXL), SDXL.patcher()
    said = "CLIP Text Encode"
    with pytest.raises(ValueError, match=said):
        out(nodes.NAGModel, patcher, empty)
    with pytest.raises(ValueError, match=said):
        out(nodes.NAGConditioning, run.positive, empty)
    with pytest.raises(ValueError, match=said):
        out(nodes.NAGGuider, patcher, run.positive, empty, 5.0, 2.5, 0.25, 0.0)
    with pytest.raises(ValueError, match=said):
        out(nodes.NAGCFGGuider, patcher, run.positive, run.negative, empty, 3.0, 5.0, 2.5, 0.25, 0.0)


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY.keys())
def test_empty_positive(nodes, empty):
    run, patcher = Run(SDXL), SDXL.patcher()
    for call in (
        lambda: out(nodes.NAGConditioning, empty, run.negative),
        lambda: out(nodes.NAGGuider, patcher, empty, run.negative, 5.0, 2.5, 0.25, 0.0),
        lambda: out(nodes.NAGCFGGuider, patcher, empty, run.negative, run.negative, 3.0, 5.0, 2.5, 0.25, 0.0),
        lambda: out(
            nodes.NAGSampler,
            *(patcher, 0, 2, 1.0, "euler", "simple", empty, run.negative, {"samples": run.latent()}, 1.0),
        ),
    ):
        with pytest.raises(ValueError, match="(positive|conditioning).*CLIP Text Encode"):
            call()


@pytest.mark.parametrize("wrong", ["sampler_name", "scheduler"])
@pytest.mark.parametrize("node", ["NAGSampler", "NAGGrid", "KSamplerWithNAG", "KSamplerAdvancedWithNAG"])
def test_a_sampler_that_comfyui_has_not(nodes, node, wrong):
    """In whose place its KSampler takes another."""
    node, run = getattr(nodes, node), Run(SDXL)
    given = {each.id: getattr(each, "default", None) for each in node.GET_SCHEMA().inputs}
    given |= {"model": SDXL.patcher(), "sampler_name": "euler", "scheduler": "simple", wrong: "eular"}
    given |= dict.fromkeys({"positive", "negative", "nag_negative"} & given.keys(), run.negative)
    with pytest.raises(ValueError, match=f"{wrong} must be one of .*, not 'eular'"):
        node.execute(**given)


@pytest.mark.parametrize("negative", EMPTY.values(), ids=EMPTY.keys())
def test_empty_negative_of_the_sampler(nodes, negative):
    run = Run(SDXL)
    with pytest.raises(ValueError, match="NAG.*negative|negative.*NAG"):
        run.sample(out(nodes.NAGModel, SDXL.patcher()), negative=negative)


@every_family
def test_embedding_of_another_text_encoder(nodes, family):
    """CLIP-L's are 768 wide; these tiny models take other widths."""
    run, patcher = Run(family), family.patcher()
    negative = [[torch.randn(1, 4, 768), {"pooled_output": torch.randn(1, POOLED)}]]
    said = rf"768.*CLIP-L.*takes {TEXT}.*Encode the negative with"
    with pytest.raises(ValueError, match=said):
        out(nodes.NAGModel, patcher, negative)
    with pytest.raises(ValueError, match=said):
        run.sample(patcher, out(nodes.NAGConditioning, run.positive, negative))


# Encoders of published models.
MADE_BY = {
    768: "CLIP-L", 1024: "Qwen3-0.6B", 1280: "CLIP-G", 2048: "CLIP-L with CLIP-G", 2304: "Gemma 2 2B", 2560: "Qwen3-4B",
    3072: "Ministral 3 3B", 3584: "Qwen2.5-VL-7B", 3840: "Gemma 3 12B", 4096: "T5-XXL",
    6144: "Gemma 3 12B, for picture and sound", 7680: "three layers of Qwen3-4B", 11520: "GPT-OSS 20B",
    12288: "three layers of Qwen3-8B", 15360: "Mistral 3 Small", 30720: "twelve layers", 53248: "thirteen layers",
}  # fmt: skip


@pytest.mark.parametrize("width", MADE_BY)
def test_an_embeddings_width_says_whose_it_is(nodes, width):
    negative = [[torch.zeros(1, 4, width), {"pooled_output": torch.zeros(1, POOLED)}]]
    with pytest.raises(ValueError, match=rf"is {width} wide \(.*{MADE_BY[width]}.*\)"):
        out(nodes.NAGModel, SDXL.patcher(), negative)


LACKING = {
    "omnigen2": "attention_mask", "boogu": "attention_mask", "ace_step1": "conditioning_lyrics",
    "hidream": "conditioning_llama3", "mochi": "attention_mask", "ace_step15": "conditioning_lyrics",
    "hunyuan_dit": "attention_mask",
}  # fmt: skip


@pytest.mark.parametrize(("name", "lost"), LACKING.items())
def test_a_text_of_the_same_width_of_another_text_encoder(nodes, name, lost):
    """Known by what the model's own brings besides."""
    family = BY_DOOR[name]
    run, patcher = Run(family), family.patcher()
    others = [[tokens, {key: value for key, value in values.items() if key != lost}] for tokens, values in run.negative]
    said = rf"The {{}} brings no .*{lost.split('_')[-1]},.*Encode the {{}} with the model's own"
    with pytest.raises(ValueError, match=said.format("NAG negative", "negative")):
        run.sample(out(nodes.NAGModel, patcher, others))
    with pytest.raises(ValueError, match=said.format("positive", "positive")):
        run.sample(patcher, out(nodes.NAGConditioning, others, run.negative))


@pytest.mark.parametrize("name", ["z_image", "lumina2", "qwen_image", "chroma", "flux2_dev", "ltxv", "anima"])
def test_positive_of_another_text_encoder(nodes, patches, name):
    """Where the negative waits at the doors. Of LTX-2's, ComfyUI itself fails, which encodes it further."""
    family = BY_DOOR[name]
    run, patcher = Run(family), family.patcher()
    adapter = patches("models").find_adapter(patcher.model)
    positive = [[torch.randn(1, 4, 768), {"pooled_output": torch.randn(1, POOLED)}]]
    for model, conditioning in (
        (out(nodes.NAGModel, patcher), positive),
        (patcher, out(nodes.NAGConditioning, positive, run.negative)),
    ):
        with pytest.raises(Exception) as error:
            run.sample(model, conditioning)
        said = ("positive's embedding is 768 wide (CLIP-L", adapter.name, adapter.text_encoder)
        assert all(each in str(error.value) for each in said)


@pytest.mark.parametrize("family", [BY_NAME["sd35_large"], BY_NAME["flux_dev"]], ids=str)
@pytest.mark.parametrize("pooled", [None, torch.randn(1, POOLED - 4)], ids=["none", "narrow"])
def test_pooled_output_of_another_text_encoder(nodes, family, pooled):
    values = {} if pooled is None else {"pooled_output": pooled}
    with pytest.raises(ValueError, match=f"pooled.*takes {POOLED}"):
        out(nodes.NAGModel, family.patcher(), [[torch.randn(1, 4, TEXT), values]])


@every_family
def test_guider_without_a_negative(nodes, family):
    """BasicGuider has none to give."""
    run, patcher = Run(family), family.patcher()
    (guider,) = stock("BasicGuider", model=out(nodes.NAGModel, patcher), conditioning=run.positive)
    with pytest.raises(ValueError, match="nag_negative"):
        custom_sample(run, patcher, guider)


def test_comfyui_without_overrides(nodes, monkeypatch):
    run, patcher = Run(SDXL), SDXL.patcher()
    monkeypatch.delattr(comfy.ldm.modules.attention, "wrap_attn")
    with pytest.raises(RuntimeError, match="0.3.60"):
        out(nodes.NAGModel, patcher)
    with pytest.raises(RuntimeError, match="0.3.60"):
        out(nodes.NAGConditioning, run.positive, run.negative)
