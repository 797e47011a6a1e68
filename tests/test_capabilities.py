"""On a ComfyUI that lacks what NAG stands on, the nodes are there, name what is missing, and refuse to run."""
import ast
import asyncio
import importlib
import sys
from enum import EnumMeta

import pytest
from host.inside import load_pack
from host.server import PACK
from patches.capabilities import NEEDED, TRIED

from families import BY_NAME
from runs import Run
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
FLUX, SDXL = BY_NAME["flux_schnell"], BY_NAME["sdxl"]


def names_from_comfyui(path):
    """What a file uses of ComfyUI, as module.attribute, with the attributes of attributes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("comfy"):
            found |= {f"{node.module}.{name.name}" for name in node.names}
            modules |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            modules |= {name.asname: name.name for name in node.names if name.asname and name.name.startswith("comfy")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            head, _, rest = ast.unparse(node).partition(".")
            if head == "comfy" or head in modules:
                found.add(f"{modules.get(head, head)}.{rest}")
    return found


ENGINE = list((PACK / "patches").rglob("*.py"))


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: path.name)
def test_everything_used_is_asked_for(patches, path):
    adapters = patches("models").adapters()
    needed = [*NEEDED, *TRIED, *(need for adapter in adapters for need in adapter.needed)]
    asked = {need.partition("(")[0].replace(":", ".") for need in needed}
    covered = lambda name: any(need == name or need.startswith(f"{name}.") for need in asked)
    assert {name for name in names_from_comfyui(path) if not covered(name)} == set()


def test_what_is_tried_is_used():
    used = set().union(*(names_from_comfyui(path) for path in ENGINE))
    assert {need.replace(":", ".") for need in TRIED} <= used and not set(TRIED) & set(NEEDED)


def test_this_comfyui_has_everything(patches):
    capabilities = patches("capabilities")
    assert capabilities.missing() == []
    for adapter in patches("models").adapters():
        assert capabilities.missing(adapter.needed) == []


@pytest.fixture
def without(patches, monkeypatch):
    """Takes something away from ComfyUI."""

    def remove(need):
        path = need.partition("(")[0]
        module, _, attributes = path.partition(":")
        *owners, name = attributes.split(".")
        owner = importlib.import_module(module)
        for each in owners:
            outer, owner = owner, getattr(owner, each)
        if isinstance(owner, EnumMeta):  # keeps its members
            monkeypatch.setattr(outer, owners[-1], object())
        elif "(" in need:  # the parameters only
            monkeypatch.setattr(owner, name, lambda: None)
        else:
            monkeypatch.delattr(owner, name)
        return path.replace(":", ".")

    return remove


@pytest.fixture
def loaded_anew():
    """Loads the pack as a server does that starts now; gives its nodes by id. Then it is as it was before."""
    name = str(PACK).replace(".", "_x_")
    of_pack = lambda: {path: each for path, each in sys.modules.items() if path == name or path.startswith(f"{name}.")}
    before = of_pack()

    def forget():
        for path in of_pack():
            del sys.modules[path]

    def load():
        forget()
        extension = asyncio.run(load_pack().comfy_entrypoint())
        nodes = asyncio.run(extension.get_node_list())
        return {node.GET_SCHEMA().node_id: node for node in nodes}

    yield load
    forget()
    sys.modules.update(before)


@pytest.mark.parametrize("need", NEEDED)
def test_nodes_load_and_refuse(without, loaded_anew, caplog, need):
    run, patcher = Run(SDXL), SDXL.patcher()
    positive, negative = run.positive, run.negative
    name = without(need)
    nodes = loaded_anew()
    assert any(record.levelname == "ERROR" and name in record.message for record in caplog.records)
    uses = {
        "NAGModel": (patcher, negative),
        "NAGConditioning": (positive, negative),
        "NAGGuider": (patcher, positive, negative, 5.0, 2.5, 0.25, 0.0),
        "NAGCFGGuider": (patcher, positive, negative, negative, 3.0, 5.0, 2.5, 0.25, 0.0),
        "NAGSampler": (patcher, 0, 2, 1.0, "euler", "simple", positive, negative, {"samples": run.latent()}, 1.0),
    }
    for node_id, inputs in uses.items():
        with pytest.raises(RuntimeError, match=name.replace(".", r"\.")):
            nodes[node_id].execute(*inputs)


def test_only_the_family_that_lacks_something_is_refused(nodes, patches, without):
    flux = patches("models.families.flux").FLUX_1
    name = without("comfy.ldm.flux.layers:DoubleStreamBlock.forward(modulation_dims_txt)")
    assert "comfy.ldm.flux.layers:DoubleStreamBlock.forward(modulation_dims_txt)" in flux.needed
    with pytest.raises(RuntimeError, match=rf"lacks {name}\(modulation_dims_txt\)"):
        out(nodes.NAGModel, FLUX.patcher())
    run = Run(SDXL)
    run.sample(out(nodes.NAGModel, SDXL.patcher()))


@pytest.mark.parametrize("name", ["sdxl", "sd35_large", "flux_schnell", "wan21_t2v"])
def test_a_model_without_a_part(nodes, patches, monkeypatch, name):
    """A part that ComfyUI has renamed."""
    run = Run(BY_NAME[name])
    patcher = run.family.patcher()
    model = patcher.model.diffusion_model
    part = patches("models").find_adapter(patcher.model).parts[0]
    positive = out(nodes.NAGConditioning, run.positive, run.negative)
    for path in [path for path, _ in model.named_modules() if f".{path}".endswith(f".{part}")]:
        parent, _, name = path.rpartition(".")
        monkeypatch.delitem(model.get_submodule(parent)._modules, name)
    for attempt in (lambda: out(nodes.NAGModel, patcher), lambda: run.sample(patcher, positive)):
        with pytest.raises(RuntimeError, match=f"lacks {part} in {type(model).__name__}"):
            attempt()
