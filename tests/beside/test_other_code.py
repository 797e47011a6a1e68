"""Another pack's code in the place of ComfyUI's: where NAG can't work with it, a sentence before a step is done."""
import comfy.hooks
import comfy.samplers
import pytest
import torch
from comfy.ldm.flux.layers import DoubleStreamBlock
from comfy.ldm.flux.model import Flux
from comfy.patcher_extension import WrappersMP

from families import BY_NAME, _patcher
from oracle.equation import Nag
from other_nodes import by_conditioning, every_order, model_first, unchanged
from runs import Run, assert_close, custom_sample
from stock import stock
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
BLOCKS = {
    "flux_schnell": ("double_blocks.1", "single_blocks.2"),
    "sd35_large": ("joint_blocks.1",),
    "wan21_t2v": ("blocks.0.cross_attn",),
}
EACH_BLOCK = [(name, path) for name, paths in BLOCKS.items() for path in paths]


def own(name):
    """A model that no other test changes."""
    return _patcher.__wrapped__(BY_NAME[name], torch.float32)


def counted(patcher):
    """A clone that counts the calls of its model."""
    calls, patched = [], patcher.clone()

    def count(executor, *args, **kwargs):
        calls.append(1)
        return executor(*args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", count)
    return patched, calls


def forward_of_another_pack(module):
    """In the place of a module's own; it does the same."""
    theirs = module.forward
    return lambda *args, **kwargs: theirs(*args, **kwargs)


@every_order
@pytest.mark.parametrize(("name", "path"), EACH_BLOCK)
def test_a_forward_in_the_place_of_a_blocks(nodes, order, name, path):
    run, patcher = Run(BY_NAME[name]), own(name)
    plain = run.sample(patcher)

    def replace(model):
        model, key = model.clone(), f"diffusion_model.{path}"
        model.add_object_patch(f"{key}.forward", forward_of_another_pack(model.get_model_object(key)))
        return model

    changed, calls = counted(replace(patcher))
    model, positive = order(nodes, patcher, run.positive, Nag(run.negative), lambda model: counted(replace(model))[0])
    with pytest.raises(ValueError, match=rf"forward\(\) in the place of {path}'s \(of the module .*test_other_code\)"):
        run.sample(model, positive)
    assert torch.equal(run.sample(patcher), plain)
    guided = run.sample(*order(nodes, patcher, run.positive, Nag(run.negative)))  # what it left is no offence
    assert_close(guided, run.sample(*model_first(nodes, own(name), run.positive, Nag(run.negative))))


class OwnBlock(torch.nn.Module):
    """Of a pack that builds a model of ComfyUI's class with blocks of its own."""

    def __init__(self, block):
        super().__init__()
        self.weights = torch.nn.ModuleList(block.children())

    def forward(self, img, txt, **_):
        return img, txt


class OwnDoubleBlock(DoubleStreamBlock):
    """Derived, with a forward of its own."""

    def forward(self, img, txt, vec, pe, attn_mask=None):
        return img, txt


class OwnFlux(Flux):
    """Calls what a block consists of, instead of the block."""

    def forward_orig(self, img, img_ids, txt, txt_ids, timesteps, y, guidance=None, **_):
        vec = self.vector_in(y)
        txt = self.txt_in(txt)
        for block in self.double_blocks:
            shifted, _ = block.txt_mod(vec)
            txt = txt + shifted.shift
        for block in self.single_blocks:
            modulation, _ = block.modulation(vec)
            txt = block.linear2(block.linear1(block.pre_norm(txt) + modulation.shift))
        return self.final_layer(self.img_in(img) + txt.mean(1, keepdim=True), vec)


def test_blocks_of_its_own(nodes):
    run, patcher = Run(BY_NAME["flux_schnell"]), own("flux_schnell")
    blocks = patcher.model.diffusion_model.double_blocks
    blocks[1] = OwnBlock(blocks[1])
    said = "Flux, and NAG can't guide it: its double_blocks hold OwnBlock .of the module .*ComfyUI only"
    with pytest.raises(ValueError, match=said):  # at the node
        out(nodes.NAGModel, patcher)
    with pytest.raises(ValueError, match=said):
        run.sample(*by_conditioning(nodes, patcher, run.positive, Nag(run.negative), unchanged))


@every_order
def test_a_derived_block(nodes, order):
    run, patcher = Run(BY_NAME["flux_schnell"]), own("flux_schnell")
    patcher.model.diffusion_model.double_blocks[0].__class__ = OwnDoubleBlock
    model, positive = order(nodes, patcher, run.positive, Nag(run.negative))
    with pytest.raises(ValueError, match=r"forward\(\) in the place of double_blocks.0's \(of the module"):
        run.sample(model, positive)


@every_order
def test_parts_that_are_called_outside_of_their_block(nodes, order):
    run, patcher = Run(BY_NAME["flux_schnell"]), own("flux_schnell")
    patcher.model.diffusion_model.__class__ = OwnFlux
    model, positive = order(nodes, patcher, run.positive, Nag(run.negative))
    model, calls = counted(model)
    with pytest.raises((RuntimeError, ValueError), match=r"OwnFlux \(of the module .*test_other_code\)"):
        run.sample(model, positive)
    assert len(calls) == 1


def test_a_models_forward_of_another_pack(nodes):
    """It knows nothing of what the model has been given since it was written."""
    run, patcher = Run(BY_NAME["flux_schnell"]), own("flux_schnell")

    def forward(self, x, timestep, context):
        raise AssertionError

    model = out(nodes.NAGModel, patcher)
    model.add_object_patch("diffusion_model.forward", forward.__get__(patcher.model.diffusion_model))
    with pytest.raises(RuntimeError, match=r"code of its own.*forward\(\) \(of the module .*went wrong.*TypeError"):
        run.sample(model, run.positive)


ERRORS = {"another error": RuntimeError("out of luck"), "no memory": torch.cuda.OutOfMemoryError("no memory")}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("has_code", [False, True], ids=["ComfyUI's own model", "with code of another pack"])
def test_errors_that_are_nobodys_code(nodes, error, has_code):
    """What is not a matter of code is not explained by it."""
    run, patcher = Run(BY_NAME["flux_schnell"]), own("flux_schnell")

    def fail(module, args):
        raise error

    model = out(nodes.NAGModel, patcher)
    if has_code:
        net = patcher.model.diffusion_model
        model.add_object_patch("diffusion_model.process_img", forward_of_another_pack_of(net.process_img))
    handle = patcher.model.diffusion_model.double_blocks[0].register_forward_pre_hook(fail)
    try:
        with pytest.raises(type(error)) as raised:
            run.sample(model, run.positive)
    finally:
        handle.remove()
    explained = "code of its own" in str(raised.value)
    assert explained == (has_code and type(error) is RuntimeError)
    assert (raised.value.__cause__ is error) if explained else (raised.value is error)


def forward_of_another_pack_of(function):
    return lambda *args, **kwargs: function(*args, **kwargs)


def forgetting(patcher):
    """Another node's model_function_wrapper, that calls the model with options of its own."""
    patched = patcher.clone()
    patched.set_model_unet_function_wrapper(
        lambda apply_model, given: apply_model(
            given["input"], given["timestep"], **{k: v for k, v in given["c"].items() if k in ("c_crossattn", "y")}
        )
    )
    return patched


@every_order
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("name", ["sdxl", "sd35_large", "flux_schnell", "wan21_t2v"])
def test_a_run_without_guidance_ends_at_once(nodes, order, cfg, name):
    """After its first step, not after twenty. The message says what the model is."""
    run, patcher = Run(BY_NAME[name], cfg=cfg, steps=20), own(name)
    steps = []
    model, positive = order(nodes, patcher, run.positive, Nag(run.negative), forgetting)
    model = model.clone()

    def count(executor, *args, **kwargs):
        steps.append(1)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "count", count)
    net, kind = patcher.model.diffusion_model, {"sdxl": "BasicTransformerBlock", "wan21_t2v": "WanT2VCrossAttention",
                                                "sd35_large": "JointBlock", "flux_schnell": "DoubleStreamBlock"}[name]
    with pytest.raises(RuntimeError, match=f"no attention was guided.*is a {type(net).__name__}.*{kind}"):
        run.sample(model, positive)
    assert len(steps) == 1


@pytest.mark.parametrize("name", ["sdxl", "flux_schnell"])
def test_a_sampler_that_calls_no_model(nodes, name):
    run, patcher = Run(BY_NAME[name]), BY_NAME[name].patcher()
    sampler = comfy.samplers.KSAMPLER(lambda model, x, sigmas, **_: x)
    result = lambda model: custom_sample(
        run, model, stock("CFGGuider", model=model, positive=run.positive, negative=run.negative, cfg=1.0)[0], sampler
    )
    assert torch.equal(result(out(nodes.NAGModel, patcher)), result(patcher))


class Broken(comfy.hooks.Hook):
    """Another node's hook, with a mistake that shows when ComfyUI copies it."""

    def clone(self):
        return self.no_such_thing


def test_a_hook_that_can_not_be_copied(nodes):
    run = Run(BY_NAME["flux_schnell"])
    hooks = comfy.hooks.HookGroup()
    hooks.add(Broken(hook_type=comfy.hooks.EnumHookType.TransformerOptions))
    positive = [[text, {**values, "hooks": hooks}] for text, values in run.positive]
    with pytest.raises(ValueError, match=r"Broken \(of the module .*AttributeError.*no_such_thing") as raised:
        out(nodes.NAGConditioning, positive, run.negative)
    assert isinstance(raised.value.__cause__, AttributeError)


@pytest.mark.parametrize("name", ["sdxl", "flux_schnell"])
def test_a_conditioning_that_is_a_tuple(nodes, name):
    """ComfyUI's samplers take it."""
    run, patcher = Run(BY_NAME[name]), BY_NAME[name].patcher()
    positive, negative = tuple(run.positive), tuple(run.negative)
    expected = run.sample(out(nodes.NAGModel, patcher))
    assert torch.equal(run.sample(out(nodes.NAGModel, patcher), positive, negative), expected)
    assert torch.equal(run.sample(out(nodes.NAGModel, patcher, negative), positive), expected)
    assert torch.equal(run.sample(patcher, out(nodes.NAGConditioning, positive, negative)), expected)
    for node, given in (("NAGGuider", (positive, negative)), ("NAGCFGGuider", (positive, negative, negative, 1.0))):
        guider = out(getattr(nodes, node), patcher, *given, None, None, None, 0.0)
        assert torch.equal(custom_sample(run, patcher, guider), expected)
