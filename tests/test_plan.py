"""What the editor is told of a graph, held against what ComfyUI does when the graph runs."""
import asyncio
import contextlib
import importlib
import json
import re
import struct
from pathlib import Path

import comfy.ldm.flux.model
import comfy.model_detection
import comfy.samplers
import comfy.supported_models
import comfy_extras.nodes_custom_sampler as custom_sampling
import folder_paths
import nodes as comfy_nodes
import pytest
import torch

from door_families import BY_NAME, FAMILIES, cross, joint, pooled
from door_families.builder import arguments_of
from families import FLUX_SAYS, SD15_SAYS, SD35_SAYS, SDXL_SAYS, WAN_SAYS

COMFY_EXTRAS = Path(custom_sampling.__file__).parent
AUTO = {"nag_scale": "auto", "nag_tau": "auto", "nag_alpha": "auto"}
NUMBERS = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}
STRENGTH = tuple(AUTO)
MUTED, BYPASSED = 2, 4


# ---------------------------------------------------------------- the host


@pytest.fixture(scope="module", autouse=True)
def _registered(pack):
    """The nodes of these graphs, registered as a server does it."""
    for name in ("custom_sampler", "model_advanced", "model_merging"):
        path = COMFY_EXTRAS / f"nodes_{name}.py"
        assert asyncio.run(comfy_nodes.load_custom_node(str(path), module_parent="comfy_extras"))
    classes, names = comfy_nodes.NODE_CLASS_MAPPINGS, comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS
    before = dict(classes), dict(names)
    for node in importlib.import_module(f"{pack.__name__}.nodes").NODES:
        schema = node.GET_SCHEMA()
        classes[schema.node_id], names[schema.node_id] = node, schema.display_name
    yield
    for mapping, was in zip((classes, names), before):
        mapping.clear()
        mapping.update(was)


@pytest.fixture
def plan(part):
    """The plan of a graph, given as {id: (type, inputs)} or {id: (type, inputs, mode)}."""

    def plan(graph):
        nodes = {
            node_id: {"type": kind, "mode": mode[0] if mode else 0, "inputs": inputs}
            for node_id, (kind, inputs, *mode) in graph.items()
        }
        answer = part("editor.plan").plan(part("editor.graph").Graph(json.loads(json.dumps({"nodes": nodes}))))
        json.dumps(answer, allow_nan=False)
        return answer

    return plan


@pytest.fixture
def really(part, monkeypatch):
    """Runs a graph's nodes for real; gives for each NAG node its sampler runs, each a list of (sigma, on).

    said: a dict for what each NAG node is told, in sentences.
    """

    def really(graph, last, said=None):
        steps, outputs, said = {}, {}, {} if said is None else said

        def request(node_id):
            report = lambda step: steps.setdefault(node_id, {}).setdefault(step.run, []).append((step.sigma, step.on))
            told = said.setdefault(node_id, [])
            advise, fail = lambda sentences, idle: told.extend(sentences), told.append
            new = part("patches.sampling.request").Request
            return classmethod(lambda cls, *wanted: new(*wanted, report, advise, fail))

        def output(link):
            node_id, slot = link
            if node_id not in outputs:
                kind, inputs = graph[node_id]
                values = {name: output(v) if isinstance(v, list) else v for name, v in inputs.items()}
                cls = comfy_nodes.NODE_CLASS_MAPPINGS[kind]
                if hasattr(cls, "request"):
                    monkeypatch.setattr(cls, "request", request(node_id))
                outputs[node_id] = part("nodes.comfyui").run(cls, **values)
            return outputs[node_id][slot]

        with torch.inference_mode():
            output([last, 0])
        return {node_id: list(runs.values()) for node_id, runs in steps.items()}

    return really


# ---------------------------------------------------------------- graphs


def playground(**options):
    """A loader, two prompts, an empty latent and NAG Options."""
    return {
        "load": ("NAGPlaygroundLoader", {}),
        "yes": ("CLIPTextEncode", {"text": "a blue square", "clip": ["load", 1]}),
        "no": ("CLIPTextEncode", {"text": "white", "clip": ["load", 1]}),
        "latent": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "options": (
            "NAGOptions",
            {"start_percent": 0.0, "end_percent": 1.0, "image_stream": "shared", "statistics": True, **options},
        ),
    }


def ksampler(kind="KSampler", model="nag", **values):
    seed = "noise_seed" if kind == "KSamplerAdvanced" else "seed"
    common = {
        "model": [model, 0], seed: 1, "steps": 6, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "positive": ["yes", 0], "negative": ["no", 0], "latent_image": ["latent", 0],
    }  # fmt: skip
    if kind == "KSamplerAdvanced":
        common |= {"add_noise": "enable", "return_with_leftover_noise": "disable", "start_at_step": 0,
                   "end_at_step": 10000}  # fmt: skip
    else:
        common["denoise"] = 1.0
    return (kind, {**common, **values})


def nag_model(**inputs):
    return ("NAGModel", {"model": ["load", 0], "options": ["options", 0], **AUTO, **inputs})


def with_ksampler(options=None, kind="KSampler", **values):
    return {**playground(**(options or {})), "nag": nag_model(), "last": ksampler(kind, **values)}


def with_shift(node="ModelSamplingFlux", **values):
    flux = {"max_shift": 1.15, "base_shift": 0.5, "width": 1024, "height": 1024}
    return {
        **playground(start_percent=0.2, end_percent=0.7),
        "shift": (node, {"model": ["load", 0], **(values or flux)}),
        "nag": nag_model(model=["shift", 0]),
        "last": ksampler(),
    }


def shifted_behind():
    graph = with_shift("ModelSamplingSD3", shift=5.0)
    shift = ("ModelSamplingSD3", {"model": ["nag", 0], "shift": 5.0})
    return {**graph, "nag": nag_model(), "shift": shift, "last": ksampler(model="shift")}


def with_conditioning():
    nag = ("NAGConditioning", {"positive": ["yes", 0], "negative": ["no", 0], "options": ["options", 0], **AUTO})
    both = ("ConditioningCombine", {"conditioning_1": ["yes", 0], "conditioning_2": ["nag", 0]})
    sampler = ksampler(model="load", positive=["both", 0])
    return {**playground(end_percent=0.5), "nag": nag, "both": both, "last": sampler}


def with_parts(before=None, behind=None):
    """NAG Conditioning beside a positive without NAG, each for a part of the sampling."""
    graph = with_conditioning()
    part = lambda origin, start, end: ("ConditioningSetTimestepRange", {
        "conditioning": [origin, 0], "start": start, "end": end
    })  # fmt: skip
    if before:
        graph["before"] = part("yes", *before)
        graph["nag"][1]["positive"] = ["before", 0]
    if behind:
        graph["behind"] = part("nag", *behind)
        graph["both"][1]["conditioning_2"] = ["behind", 0]
    return graph


def limited(*names, start=0.25, end=0.7):
    """NAG Model, and inputs of the sampler that hold for a part of the sampling."""
    graph = with_ksampler()
    for name in names:
        inputs = {"conditioning": graph["last"][1][name], "start": start, "end": end}
        graph[f"part of {name}"] = ("ConditioningSetTimestepRange", inputs)
        graph["last"] = ksampler(**{each: [f"part of {each}", 0] for each in names})
    return graph


def in_turn():
    """NAG Model, whose positive has a NAG Conditioning of its own to begin with, and then none."""
    graph = with_parts(before=(0.0, 0.4))
    graph["own"], graph["nag"] = graph["nag"], nag_model()
    graph["then"] = ("ConditioningSetTimestepRange", {"conditioning": ["yes", 0], "start": 0.4, "end": 1.0})
    graph["both"] = ("ConditioningCombine", {"conditioning_1": ["then", 0], "conditioning_2": ["own", 0]})
    return {**graph, "last": ksampler(positive=["both", 0])}


def two_samplers():
    """As Wan2.2's workflows have them: the second takes up where the first leaves off."""
    first = ksampler("KSamplerAdvanced", "load", end_at_step=2, return_with_leftover_noise="enable",
                     positive=["nag", 0])  # fmt: skip
    second = ksampler("KSamplerAdvanced", "load", start_at_step=2, add_noise="disable", positive=["nag", 0],
                      latent_image=["first", 0])  # fmt: skip
    return {**with_conditioning(), "last": second, "first": first}  # in the order in which they do not run


def custom(guider=None, **sigmas):
    """A SamplerCustomAdvanced; sigmas: the nodes behind its sigmas, of which the last is called `sigmas`."""
    guider = guider or ("NAGGuider", {
        "model": ["load", 0], "conditioning": ["yes", 0], "nag_negative": ["no", 0], "options": ["options", 0],
        **NUMBERS,
    })  # fmt: skip
    return {
        **playground(start_percent=0.1, end_percent=0.6),
        "nag": guider,
        "noise": ("RandomNoise", {"noise_seed": 3}),
        "sampler": ("KSamplerSelect", {"sampler_name": "euler"}),
        **(sigmas or {"sigmas": ("BasicScheduler", BASIC)}),
        "last": ("SamplerCustomAdvanced", {
            "noise": ["noise", 0], "guider": ["nag", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0],
            "latent_image": ["latent", 0],
        }),
    }  # fmt: skip


BASIC = {"model": ["load", 0], "scheduler": "beta", "steps": 7, "denoise": 0.8}
SPLIT = {"whole": ("BasicScheduler", BASIC), "sigmas": ("SplitSigmas", {"sigmas": ["whole", 0], "step": 4})}
CFG_GUIDER = ("NAGCFGGuider", {
    "model": ["load", 0], "positive": ["yes", 0], "negative": ["no", 0], "nag_negative": ["no", 0], "cfg": 1.0,
    "options": ["options", 0], **NUMBERS, "nag_sigma_end": 0.8,
})  # fmt: skip
SAMPLER_CUSTOM = {
    "model": ["nag", 0], "add_noise": True, "noise_seed": 1, "cfg": 1.0, "positive": ["yes", 0],
    "negative": ["no", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0], "latent_image": ["latent", 0],
}  # fmt: skip


def changed_options(graph, **options):
    """The graph with other values in NAG Options."""
    kind, before = graph["options"]
    return {**graph, "options": (kind, {**before, **options})}


# The last one has another number of steps than was asked for.
SCHEDULERS = ("simple", "normal", "karras", "sgm_uniform", "beta", "kl_optimal", "linear_quadratic", "ddim_uniform")
GRAPHS = {
    **{
        f"ksampler_{scheduler}": with_ksampler({"start_percent": 0.15, "end_percent": 0.5}, scheduler=scheduler)
        for scheduler in SCHEDULERS
    },
    "always_on": with_ksampler(),
    "never_on": with_ksampler({"start_percent": 0.99}),
    "denoise": with_ksampler({"end_percent": 0.7}, denoise=0.55),
    "denoise_0": with_ksampler(denoise=0.0),
    "sampler_without_last_but_one": with_ksampler({"end_percent": 0.4}, sampler_name="dpm_2_ancestral", steps=5),
    "advanced_start": with_ksampler({"end_percent": 0.5}, "KSamplerAdvanced", start_at_step=2),
    "advanced_end": with_ksampler({"end_percent": 0.5}, "KSamplerAdvanced", start_at_step=1, end_at_step=4),
    "advanced_behind_the_end": with_ksampler({}, "KSamplerAdvanced", start_at_step=6),
    "shift_flux": with_shift(),
    "shift_sd3": with_shift("ModelSamplingSD3", shift=7.0),
    "shift_aura": with_shift("ModelSamplingAuraFlow", shift=1.73),
    "shift_behind_nag": shifted_behind(),
    "conditioning": with_conditioning(),
    "part_before_nag": with_parts(before=(0.1, 0.3)),
    "part_behind_nag": with_parts(behind=(0.2, 1.0)),
    "parts_before_and_behind_nag": with_parts((0.0, 0.1), (0.15, 0.9)),
    "part_of_the_negative": limited("negative"),
    "part_of_the_positive": limited("positive"),
    "positives_in_turn": in_turn(),
    "two_samplers": two_samplers(),
    "guider": custom(),
    "split_sigmas": custom(**SPLIT),
    "cfg_guider": custom(CFG_GUIDER),
    "sampler_custom": {**custom(), "nag": nag_model(), "last": ("SamplerCustom", SAMPLER_CUSTOM)},
    "nag_sampler": {
        **playground(end_percent=0.3),
        "last": ksampler("NAGSampler", "load", scheduler="normal", options=["options", 0], **AUTO),
    },
    "off": {**playground(), "nag": nag_model(nag_scale="1"), "last": ksampler()},
    "schedule_with_zeros": with_ksampler({"schedule": "list", "strengths": "0, 1, 0, 0.5, 0"}),
    "schedule_in_a_part": with_ksampler({"schedule": "linear", "start_percent": 0.1, "end_percent": 0.7}),
    "schedule_of_two_samplers": changed_options(two_samplers(), schedule="list", strengths="1, 0, 1"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_plan_is_what_a_run_does(plan, really, name):
    graph = GRAPHS[name]
    (nag,) = graph.keys() & {"nag"} or {"last"}
    node = plan(graph)["nodes"][nag]
    for run in node["runs"]:
        assert run["exact"] and run["steps"] == len(run["on"]) == max(len(run["sigmas"]) - 1, 0)
    planned = [list(zip(run["sigmas"], run["on"])) for run in node["runs"] if run["steps"]]
    ran = really(graph, "last").get(nag, [])
    if node["off"]:
        assert not ran and not any(on for _, on in planned[0])
    else:
        assert planned == ran


def test_graphs_differ_in_what_they_test(plan):
    """Else every graph above might be on all the time."""
    on = {name: [on for node in plan(g)["nodes"].values() for run in node["runs"] for on in run["on"]]
          for name, g in GRAPHS.items()}  # fmt: skip
    assert sum(any(each) and not all(each) for each in on.values()) >= 15


def test_samplers_come_in_the_order_in_which_they_run(plan):
    assert [run["sampler"] for run in plan(two_samplers())["nodes"]["nag"]["runs"]] == ["first", "last"]


# ---------------------------------------------------------------- the family, from a file


def write_file(path, shapes, values=(), settings=None):
    """A safetensors file whose tensors are float16 and all zero, and take no room on the disk.

    values: float32 scalars that it has besides, by name.
    settings: of the transformer, where LTX's files say so.
    """
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    for name in dict(values):
        header[name] = {"dtype": "F32", "shape": [1], "data_offsets": [offset, offset := offset + 4]}
    metadata = {"made_by": "a test", "config": json.dumps({"transformer": settings or {}})}
    described = json.dumps({"__metadata__": metadata, **header}).encode()
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(described)) + described)
        file.truncate(8 + len(described) + offset - 4 * len(values))
        file.seek(0, 2)
        file.write(struct.pack(f"<{len(values)}f", *dict(values).values()))


def model_of(config_class, prefix="", **sizes):
    """One of ComfyUI's models: the shapes of its tensors by name, and its sampling."""
    config = config_class({**sizes, **config_class.unet_config})
    config.set_inference_dtype(torch.float16, None)
    model = config.get_model({}, device=torch.device("meta"))
    shapes = {prefix + name: tensor.shape for name, tensor in model.diffusion_model.state_dict().items()}
    return shapes, model.model_sampling


def of_unet(name, **sizes):
    shape = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1] * 9 + [0] * 3, "use_spatial_transformer": True, "legacy": False, **sizes,
    }  # fmt: skip
    return model_of(getattr(comfy.supported_models, name), "model.diffusion_model.", **shape)


def of_sdxl():
    return of_unet(
        "SDXL", num_res_blocks=[2, 2, 2], channel_mult=[1, 2, 4], transformer_depth_middle=10,
        transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], num_classes="sequential",
    )  # fmt: skip


def of_sd35():
    return model_of(
        comfy.supported_models.SD3, input_size=None, pos_embed_max_size=192, num_patches=36864, patch_size=2, depth=3,
        adm_in_channels=2048, qk_norm="rms",
        context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 192}},
    )  # fmt: skip


def of_flux(guidance):
    sizes = {
        "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072,
        "mlp_ratio": 4.0, "num_heads": 24, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 56, 56],
        "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": guidance, "txt_ids_dims": [],
    }  # fmt: skip
    known = comfy.ldm.flux.model.FluxParams.__dataclass_fields__
    return model_of(comfy.supported_models.Flux, **{name: value for name, value in sizes.items() if name in known})


def of_wan():
    return model_of(
        comfy.supported_models.WAN21_T2V, dim=256, ffn_dim=512, freq_dim=256, text_dim=4096, num_heads=2, num_layers=2,
        in_dim=16, out_dim=16,
    )  # fmt: skip


@pytest.fixture
def unknown(part, model_folder, monkeypatch):
    """A loader of a file of a family that NAG does not know: ComfyUI's AuraFlow, forgotten."""
    models = part("patches.models")
    known = {name: adapters for name, adapters in models.REGISTRY.items() if name != "comfy.ldm.aura.mmdit.MMDiT"}
    monkeypatch.setattr(models, "REGISTRY", known)
    write_file(model_folder / "m.safetensors", of_aura_flow()[0])
    return with_file(CHECKPOINT, "m.safetensors")


def of_aura_flow():
    return model_of(comfy.supported_models.AuraFlow, "model.", cond_seq_dim=2048, n_double_layers=4, n_layers=8)


CHECKPOINT, DIFFUSION_MODEL = ("CheckpointLoaderSimple", "ckpt_name"), ("UNETLoader", "unet_name")
FILES = {
    "sd15": (CHECKPOINT, lambda: of_unet("SD15", num_heads=8), "Stable Diffusion 1.5 and 2", SD15_SAYS),
    "sd2": (CHECKPOINT, lambda: of_unet("SD20", num_head_channels=64), "Stable Diffusion 1.5 and 2", SD15_SAYS),
    "sdxl": (CHECKPOINT, of_sdxl, "Stable Diffusion XL", SDXL_SAYS),
    "sdxl_unet": (DIFFUSION_MODEL, of_sdxl, "Stable Diffusion XL", SDXL_SAYS),
    "sd35": (DIFFUSION_MODEL, of_sd35, None, SD35_SAYS),
    "flux_dev": (DIFFUSION_MODEL, lambda: of_flux(True), "Flux", FLUX_SAYS),
    "flux_schnell": (DIFFUSION_MODEL, lambda: of_flux(False), "Flux", FLUX_SAYS),
    "wan": (DIFFUSION_MODEL, of_wan, None, WAN_SAYS),
}


def of_doors(config, takes=None, prefix="", **sizes):
    """A family whose negative waits at the doors, in its real sizes, but with few blocks."""
    if not hasattr(comfy.supported_models, config):
        pytest.skip(f"this ComfyUI has no {config}")
    known = sizes if takes is None else arguments_of(takes)
    return model_of(
        getattr(comfy.supported_models, config), prefix, **{name: sizes[name] for name in sizes if name in known}
    )


NEXT_DIT = {"takes": joint.NEXT_DIT, "patch_size": 2, "in_channels": 16, "n_layers": 2, "qk_norm": True}
AS_FLUX = {
    "takes": joint.FLUX, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 1, "depth_single_blocks": 1,
    "theta": 10000, "axes_dim": [16, 56, 56], "patch_size": 2, "qkv_bias": True, "txt_ids_dims": [], "in_channels": 16,
    "out_channels": 16, "vec_in_dim": None,
}  # fmt: skip
AS_FLUX_2 = {
    **AS_FLUX, "mlp_ratio": 3.0, "axes_dim": [32] * 4, "theta": 2000, "patch_size": 1, "qkv_bias": False,
    "txt_ids_dims": [3], "in_channels": 128, "out_channels": 128, "global_modulation": True, "mlp_silu_act": True,
    "ops_bias": False,
}  # fmt: skip


def of_klein():
    shapes, sampling = of_doors("Flux2", **AS_FLUX_2, context_in_dim=7680, guidance_embed=False)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    if comfy.model_detection.detect_unet_config(tensors, "")["num_heads"] != 24:
        pytest.skip("this ComfyUI knows Flux.2 dev's size only")
    return shapes, sampling


AS_CHROMA = {
    **AS_FLUX, "takes": "chroma.model.ChromaParams", "context_in_dim": 4096, "in_channels": 64, "out_channels": 64,
    "in_dim": 64, "out_dim": 3072, "hidden_dim": 5120, "n_layers": 5,
}  # fmt: skip
AS_COSMOS = {
    "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16, "patch_spatial": 2,
    "patch_temporal": 1, "model_channels": 2048, "num_heads": 16, "num_blocks": 2, "crossattn_emb_channels": 1024,
    "pos_emb_cls": "rope3d", "use_adaln_lora": True, "adaln_lora_dim": 256,
}  # fmt: skip
AS_COSMOS_1 = {
    **cross.COSMOS_1, "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "model_channels": 4096, "num_heads": 32,
    "crossattn_emb_channels": 1024, "adaln_lora_dim": 256,
}  # fmt: skip
AS_ACE = {"attention_head_dim": 128, "inner_dim": 2560, "num_attention_heads": 20, "num_layers": 2, "mlp_ratio": 2.5}
AS_LTX = {"num_layers": 2, "cross_attention_dim": 2048, "attention_head_dim": 64}
AS_LTX_2 = {"num_layers": 2, "cross_attention_dim": 4096, "attention_head_dim": 128}
ADALN = {"cross_attention_adaln": True, "apply_gated_attention": True, "caption_proj_before_connector": True}
AS_HUNYUAN = {
    **pooled.HUNYUAN_VIDEO, "takes": pooled.HUNYUAN, "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072,
    "mlp_ratio": 4.0, "num_heads": 24, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 56, 56],
}  # fmt: skip
AS_HUNYUAN_IMAGE = {
    **AS_HUNYUAN, "vec_in_dim": None, "context_in_dim": 3584, "patch_size": [1, 1], "axes_dim": [64, 64],
    "in_channels": 64, "out_channels": 64, "byt5": True, "guidance_embed": False,
}  # fmt: skip
AS_HIDREAM = {
    **pooled.HIDREAM, "num_layers": 16, "num_single_layers": 32, "attention_head_dim": 128, "num_attention_heads": 20,
    "caption_channels": [4096, 4096], "text_emb_dim": 2048, "num_routed_experts": 4, "axes_dims_rope": (64, 32, 32),
    "max_resolution": (128, 128), "llama_layers": list(range(48)),
}  # fmt: skip
AS_MOCHI = {
    **pooled.MOCHI, "depth": 48, "num_heads": 24, "hidden_size_x": 3072, "hidden_size_y": 1536, "mlp_ratio_x": 4.0,
    "mlp_ratio_y": 4.0, "t5_feat_dim": 4096,
}  # fmt: skip
WITH_DOORS = {  # a loader, how a model is made, its family
    "z_image": (
        DIFFUSION_MODEL,
        lambda: of_doors(
            "ZImage", **NEXT_DIT, dim=3840, cap_feat_dim=2560, n_heads=30, n_kv_heads=30, axes_dims=[32, 48, 48],
            ffn_dim_multiplier=8 / 3, z_image_modulation=True, pad_tokens_multiple=32,
        ),
        "Z-Image",
    ),
    "lumina2": (
        CHECKPOINT,
        lambda: of_doors(
            "Lumina2", **NEXT_DIT, prefix="model.diffusion_model.", dim=2304, cap_feat_dim=2304, n_heads=24,
            n_kv_heads=8, axes_dims=[32] * 3,
        ),
        "Lumina 2",
    ),
    "qwen_image": (DIFFUSION_MODEL, lambda: of_doors("QwenImage", num_layers=2), "Qwen-Image"),
    "chroma": (DIFFUSION_MODEL, lambda: of_doors("Chroma", **AS_CHROMA), "Chroma"),
    "flux2_klein": (DIFFUSION_MODEL, of_klein, "Flux.2 Klein"),
    "flux2_dev": (
        DIFFUSION_MODEL,
        lambda: of_doors(
            "Flux2", **{**AS_FLUX_2, "hidden_size": 6144, "num_heads": 48}, context_in_dim=15360, guidance_embed=True
        ),
        "Flux.2",
    ),
    "longcat": (DIFFUSION_MODEL, lambda: of_doors("LongCatImage", **AS_FLUX, context_in_dim=3584), "LongCat-Image"),
    "krea2": (DIFFUSION_MODEL, lambda: of_doors("Krea2", layers=2), "Krea 2"),
    "ideogram4": (DIFFUSION_MODEL, lambda: of_doors("Ideogram4", num_layers=2), "Ideogram 4"),
    "omnigen2": (DIFFUSION_MODEL, lambda: of_doors("Omnigen2", num_layers=2, text_feat_dim=2048), "OmniGen2"),
    "boogu": (DIFFUSION_MODEL, lambda: of_doors("Boogu", num_layers=2, num_double_stream_layers=2), "Boogu"),
    "auraflow": (CHECKPOINT, of_aura_flow, "AuraFlow"),
    "cogvideox": (DIFFUSION_MODEL, lambda: of_doors("CogVideoX_T2V", num_layers=2), "CogVideoX"),
    "pixeldit": (DIFFUSION_MODEL, lambda: of_doors("PixelDiTT2I", prefix="core.", patch_depth=2), "PixelDiT"),
    "lens": (DIFFUSION_MODEL, lambda: of_doors("Lens", num_layers=2), "Lens"),
    "joyimage": (DIFFUSION_MODEL, lambda: of_doors("JoyImage", num_layers=2), "JoyImage"),
    "pid": (DIFFUSION_MODEL, lambda: of_doors("PiD", patch_depth=2), "PiD"),
    "hunyuan_video": (DIFFUSION_MODEL, lambda: of_doors("HunyuanVideo", **AS_HUNYUAN), "HunyuanVideo"),
    "hunyuan_video_i2v": (
        DIFFUSION_MODEL, lambda: of_doors("HunyuanVideoI2V", **{**AS_HUNYUAN, "in_channels": 33}), "HunyuanVideo"
    ),
    "hunyuan_video_15": (
        DIFFUSION_MODEL,
        lambda: of_doors(
            "HunyuanVideo15", **{**AS_HUNYUAN_IMAGE, "hidden_size": 2048, "num_heads": 16, "in_channels": 65,
            "out_channels": 32, "patch_size": [1] * 3, "axes_dim": [16, 56, 56], "vision_in_dim": 1152,
            "meanflow_sum": True, "use_cond_type_embedding": True},
        ),
        "HunyuanVideo 1.5",
    ),
    "hunyuan_image": (DIFFUSION_MODEL, lambda: of_doors("HunyuanImage21", **AS_HUNYUAN_IMAGE), "HunyuanImage 2.1"),
    "hidream": (DIFFUSION_MODEL, lambda: of_doors("HiDream", **AS_HIDREAM), "HiDream"),
    "mochi": (DIFFUSION_MODEL, lambda: of_doors("GenmoMochi", **AS_MOCHI), "Mochi"),
    "minimax_h3": (DIFFUSION_MODEL, lambda: of_doors("MiniMaxH3", num_layers=2), "MiniMax H3"),
    "ltxv": (CHECKPOINT, lambda: of_doors("LTXV", prefix="model.diffusion_model.", **AS_LTX), "LTX-Video"),
    "ltx2": (CHECKPOINT, lambda: of_doors("LTXAV", prefix="model.diffusion_model.", **AS_LTX_2), "LTX-2"),
    "ltx23": (
        CHECKPOINT, lambda: of_doors("LTXAV", prefix="model.diffusion_model.", **AS_LTX_2, **ADALN), "LTX-2.3"
    ),
    "cosmos1": (DIFFUSION_MODEL, lambda: of_doors("CosmosT2V", **AS_COSMOS_1), "Cosmos 1"),
    "ace_step1": (CHECKPOINT, lambda: of_doors("ACEStep", prefix="model.diffusion_model.", **AS_ACE), "ACE-Step 1"),
    "cosmos_predict2": (DIFFUSION_MODEL, lambda: of_doors("CosmosT2IPredict2", **AS_COSMOS), "Cosmos Predict2"),
    "anima": (DIFFUSION_MODEL, lambda: of_doors("Anima", **AS_COSMOS), "Anima"),
    "kandinsky5": (
        DIFFUSION_MODEL,
        lambda: of_doors(
            "Kandinsky5", model_dim=1792, ff_dim=7168, time_dim=512, visual_embed_dim=132, num_text_blocks=2,
            num_visual_blocks=2, axes_dims=(16, 24, 24),
        ),
        "Kandinsky 5",
    ),
    "pixart_sigma": (DIFFUSION_MODEL, lambda: of_doors("PixArtSigma", depth=2, micro_condition=False), "PixArt"),
    "pixart_alpha": (DIFFUSION_MODEL, lambda: of_doors("PixArtAlpha", depth=2), "PixArt"),
    "hunyuan_dit": (
        CHECKPOINT, lambda: of_doors("HunyuanDiT", prefix="model.", depth=4, hidden_size=1408), "Hunyuan-DiT"
    ),
    "ernie_image": (DIFFUSION_MODEL, lambda: of_doors("ErnieImage", num_layers=2), "ERNIE-Image"),
}  # fmt: skip


@pytest.fixture
def model_folder(tmp_path, monkeypatch):
    """An empty folder for checkpoints and for diffusion models."""
    for kind in ("checkpoints", "diffusion_models"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path)], {".safetensors", ".ckpt"}))
    folder_paths.filename_list_cache.clear()
    yield tmp_path
    folder_paths.filename_list_cache.clear()


def with_file(loader, name, **sampling):
    kind, widget = loader
    return {**playground(start_percent=0.1, end_percent=0.6), "load": (kind, {widget: name}), "nag": nag_model(),
            "last": ksampler(**sampling)}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_family_and_sigmas_of_a_file(plan, model_folder, name):
    loader, make, family, says = FILES[name]
    shapes, sampling = make()
    write_file(model_folder / "a model.safetensors", shapes)
    answer = plan(with_file(loader, "a model.safetensors", steps=9))
    node = answer["nodes"]["nag"]
    assert family in (None, node["family"]) and node["family"] in [each["name"] for each in answer["families"]]
    assert node["recommended"].items() >= dict(zip(STRENGTH, says)).items()
    assert node["recommended"]["whose"]
    assert node["settings"].items() >= dict(zip(STRENGTH, says)).items()
    assert node["message"] is None and node["runs"][0]["exact"]
    assert node["runs"][0]["sigmas"] == comfy.samplers.calculate_sigmas(sampling, "simple", 9).tolist()


@pytest.mark.parametrize("name", WITH_DOORS)
def test_a_file_of_a_family_with_doors(plan, part, model_folder, name):
    loader, make, family = WITH_DOORS[name]
    shapes, sampling = make()
    write_file(model_folder / "a model.safetensors", shapes, settings=ADALN if name == "ltx23" else {})
    answer = plan(with_file(loader, "a model.safetensors", steps=9))
    node = answer["nodes"]["nag"]
    says = dict(zip(STRENGTH, BY_NAME[name if name != "kandinsky5" else "kandinsky5_video"].recommended))
    assert (node["family"], node["message"]) == (family, None)
    assert node["recommended"].items() >= says.items()
    assert any({"name": family, **says}.items() <= each.items() for each in answer["families"])
    assert node["runs"][0]["exact"]
    assert node["runs"][0]["sigmas"] == comfy.samplers.calculate_sigmas(sampling, "simple", 9).tolist()


def test_sd35_file_samples_with_its_own_shift(plan, model_folder):
    write_file(model_folder / "m.safetensors", of_sd35()[0])
    (run,) = plan(with_file(DIFFUSION_MODEL, "m.safetensors", steps=2))["nodes"]["nag"]["runs"]
    assert run["sigmas"] == pytest.approx([1.0, 3 * 0.5 / (1 + 2 * 0.5), 0.0])  # of times 1, 1/2, 0 and shift 3


def test_values_in_a_file_that_decide_its_kind(plan, model_folder):
    """NoobAI's v-prediction models carry their sigmas in the file."""
    path = model_folder / "m.safetensors"
    write_file(path, of_sdxl()[0], {"edm_vpred.sigma_max": 120.0, "edm_vpred.sigma_min": 0.01})
    sigmas = plan(with_file(CHECKPOINT, path.name, scheduler="exponential"))["nodes"]["nag"]["runs"][0]["sigmas"]
    assert sigmas[0] == pytest.approx(120.0) and sigmas[-2] == pytest.approx(0.01, rel=1e-3)


def test_another_file_of_the_same_name(plan, model_folder):
    path = model_folder / "m.safetensors"
    write_file(path, of_wan()[0])
    assert plan(with_file(DIFFUSION_MODEL, path.name))["nodes"]["nag"]["recommended"]["nag_scale"] == WAN_SAYS[0]
    write_file(path, of_sd35()[0])
    assert plan(with_file(DIFFUSION_MODEL, path.name))["nodes"]["nag"]["recommended"]["nag_scale"] == SD35_SAYS[0]


PLAYGROUND = {"playground": "Flux", "tiny Flux": "Flux", "tiny SD3.5, distilled": "Stable Diffusion 3 and 3.5",
              "tiny SDXL": "Stable Diffusion XL", "tiny Wan, distilled": "Wan", "tiny emoji": "Flux"}  # fmt: skip


@pytest.mark.parametrize("model", PLAYGROUND)
def test_each_model_of_the_playground(plan, part, model):
    """Also where its weights are not there: then ComfyUI says so when it runs."""
    graph = {**playground(), "load": ("NAGPlaygroundLoader", {"model": model}), "nag": nag_model(), "last": ksampler()}
    answer = plan(graph)
    name = part("nodes.playground").NETWORKS[model].removesuffix(" student")
    node, network = answer["nodes"]["nag"], part("playground.networks").build_model(name)
    (family,) = (each for each in answer["families"] if each["name"] == PLAYGROUND[model])
    assert (node["family"], node["message"]) == (family["name"], None)
    assert node["settings"].items() >= {name: family[name] for name in STRENGTH}.items()
    assert node["runs"][0]["exact"] and all(node["runs"][0]["on"])
    sigmas = comfy.samplers.calculate_sigmas(network.model_sampling, "simple", 6).tolist()
    assert node["runs"][0]["sigmas"] == sigmas


@pytest.mark.parametrize("model", ["huge Flux", {}, [1, 2, 3]], ids=str)
def test_a_model_that_the_playground_has_not(plan, model):
    graph = {**playground(), "load": ("NAGPlaygroundLoader", {"model": model}), "nag": nag_model(),
             "last": ksampler()}  # fmt: skip
    node = plan(graph)["nodes"]["nag"]
    assert (node["family"], node["message"]) == (None, None) and not node["runs"][0]["exact"]


def refusing_unknown_models(graph):
    kind, inputs, *mode = graph["nag"]
    options = ("NAGOptions", {"start_percent": 0.0, "end_percent": 1.0, "unknown_models": False})
    return {**graph, "options": options, "nag": (kind, {**inputs, "options": ["options", 0]}, *mode)}


def test_family_that_nobody_has_declared(plan, unknown):
    node = plan(unknown)["nodes"]["nag"]
    assert (node["family"], node["message"]) == ("found, not declared: MMDiT", None) and any(node["runs"][0]["on"])
    assert [node["settings"][name] for name in STRENGTH] == [5.0, 2.5, 0.25]


def test_unsupported_family_says_so(plan, unknown):
    node = plan(refusing_unknown_models(unknown))["nodes"]["nag"]
    assert node["family"] is None and "has no adapter for it yet" in node["message"]
    assert not any(node["runs"][0]["on"])


def test_where_another_packs_node_takes_over_it_says_so(plan, part, unknown, monkeypatch):
    class Theirs:
        RELATIVE_PYTHON_MODULE = "custom_nodes.Other-NAG"

    monkeypatch.setitem(part("nodes.names")._replaced, "NAGCFGGuider", Theirs)
    graph = refusing_unknown_models({**custom(CFG_GUIDER), "load": unknown["load"]})
    message = plan(graph)["nodes"]["nag"]["message"]
    assert "has no adapter for it yet" in message and message.endswith("Other-NAG's NAGCFGGuider does it instead.")


@pytest.mark.parametrize(("numbers", "says"), [
    ({"nag_scale": 0.5}, "nag_scale is 0.5. Below 1"), ({"nag_scale": 0.0}, "nag_scale is 0. Below 1"),
    ({"strength": 0.0}, "strength is 0, which is off"), ({"strength": 0.05}, None),
    ({"nag_scale": 1.0}, "nag_scale is 1, which is off"), ({"nag_alpha": "0"}, "nag_alpha is 0, which is off"),
    ({"nag_scale": 1.5}, None), ({"nag_alpha": 0.01}, None), ({}, None),
])  # fmt: skip
def test_numbers_that_do_nothing_or_the_contrary(plan, numbers, says):
    graph = {**playground(), "nag": nag_model(**numbers), "last": ksampler()}
    assert_says(plan(graph)["nodes"]["nag"], says)
    for mode in (MUTED, BYPASSED):
        asleep = plan({**graph, "nag": (*graph["nag"], mode)})["nodes"]["nag"]
        assert asleep["message"] is None


def assert_says(node, says):
    """The one message that a node has, and no step at which NAG acts; says: a part of it, or None if it has none."""
    on = [on for run in node["runs"] for on in run["on"]]
    if says is None:
        assert node["message"] is None and any(on)
    else:
        assert says in (node["message"] or "") and node["message"].count(says) == 1 and not any(on)


def test_a_model_that_an_adapter_can_not_read(plan, part, model_folder, monkeypatch):
    """It is said on its node; the picture of the other is there."""
    write_file(model_folder / "m.safetensors", of_wan()[0])
    (wan,) = part("patches.models").REGISTRY["comfy.ldm.wan.model.WanModel"]
    monkeypatch.setattr(wan, "unsupported", lambda model: model.no_such_part, raising=False)
    graph = with_file(DIFFUSION_MODEL, "m.safetensors", steps=3)
    graph |= {"other": nag_model(), "of other": ksampler(steps=5), "flux": ("NAGPlaygroundLoader", {})}
    graph["other"][1]["model"], graph["of other"][1]["model"] = ["flux", 0], ["other", 0]
    nodes = plan(graph)["nodes"]
    assert nodes["nag"]["family"] is None and "no_such_part" in nodes["nag"]["message"]
    assert nodes["nag"]["runs"][0]["on"] == [False] * 3
    assert nodes["other"]["family"] == "Flux" and nodes["other"]["message"] is None


def no_file(path):
    pass


def empty_file(path):
    path.touch()


def not_safetensors(path):
    path.write_bytes(b"\xff" * 100)


def not_a_model(path):
    write_file(path, {"some.weight": [3, 4]})


def cut_off(path):
    write_file(path, of_wan()[0])
    with open(path, "r+b") as file:
        file.truncate(1000)


def without_its_pack(path):
    """As GGUF's loader has it: read by a node that nobody here knows."""
    empty_file(path)


@pytest.mark.parametrize("make", [no_file, without_its_pack])
def test_unreadable_file_gives_a_guess(plan, model_folder, caplog, make):
    make(model_folder / "m.safetensors")
    loader = DIFFUSION_MODEL if make is no_file else ("AnotherPacksLoader", "unet_name")
    node = plan(with_file(loader, "m.safetensors", steps=10))["nodes"]["nag"]
    assert (node["family"], node["recommended"], node["message"]) == (None, None, None)
    assert node["settings"]["nag_scale"] is None and node["settings"]["end_percent"] == 0.6
    (run,) = node["runs"]
    assert not run["exact"] and run["sigmas"] is None
    assert run["on"] == [False] + [True] * 5 + [False] * 4
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("make", [empty_file, not_safetensors, not_a_model, cut_off])
@pytest.mark.parametrize("loader", ["CheckpointLoaderSimple", "UNETLoader"])
def test_broken_file(plan, part, model_folder, caplog, make, loader):
    make(model_folder / "m.safetensors")
    loader = CHECKPOINT if loader.startswith("Checkpoint") else DIFFUSION_MODEL
    node = plan(with_file(loader, "m.safetensors"))["nodes"]["nag"]
    assert_says(node, "m.safetensors can't be read as a model")
    assert f"Choose another in {comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS[loader[0]]} #load." in node["message"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    with pytest.raises(Exception, match="."):  # nor can ComfyUI
        weights = {} if loader is CHECKPOINT else {"weight_dtype": "default"}
        part("nodes.comfyui").run(comfy_nodes.NODE_CLASS_MAPPINGS[loader[0]], **{loader[1]: "m.safetensors"}, **weights)


@pytest.mark.parametrize("name", ["../m.safetensors", "/m.safetensors", "..\\m.safetensors", "a\0.safetensors", 7, []])
def test_no_file_outside_the_model_folders_is_read(plan, model_folder, name):
    write_file(model_folder.parent / "m.safetensors", of_wan()[0])
    assert plan(with_file(DIFFUSION_MODEL, name))["nodes"]["nag"]["family"] is None


def test_a_variant_names_its_family(plan):
    """Else the editor would say that it is another model's."""
    families = {each["name"]: each["variant_of"] for each in plan({})["families"]}
    variants = {name: family for name, family in families.items() if family}
    assert variants.keys() >= {"Flux.1 Kontext", "Z-Image base"}
    assert {families[family] for family in variants.values()} == {None}


def test_families_and_their_settings(plan):
    says = {tuple(each[name] for name in STRENGTH) for each in plan({})["families"]}
    with_doors = {family.recommended for family in FAMILIES}
    assert says >= {SD15_SAYS, SDXL_SAYS, SD35_SAYS, FLUX_SAYS, WAN_SAYS} | with_doors


def test_numbers_that_many_have_are_called_by_whose_they_are(plan):
    families = plan({})["families"]
    numbers = lambda each: (each["nag_scale"], each["nag_tau"], each["nag_alpha"])
    assert next(each["name"] for each in families if numbers(each) == (5.0, 2.5, 0.25)) == "Flux"


# ---------------------------------------------------------------- ways through a graph


def plan_of(plan, graph, nag="nag"):
    return plan(graph)["nodes"][nag]


def test_bypassed_nodes_are_passed(plan):
    graph = with_shift("ModelSamplingSD3", shift=7.0)
    graph["shift"] = (*graph["shift"], BYPASSED)
    assert plan_of(plan, graph)["runs"] == plan_of(plan, {**graph, "nag": nag_model()})["runs"]


def test_bypassed_node_with_two_outputs_of_a_type(plan):
    """Each output passes on the input of the same place."""
    graph = with_conditioning()
    both = {"positive": ["yes", 0], "negative": ["nag", 0], "strength": 1.0}
    graph["both"] = ("ControlNetApplyAdvanced", both, BYPASSED)
    assert not plan_of(plan, graph)["runs"]
    graph["last"] = ksampler(model="load", positive=["both", 1])
    assert len(plan_of(plan, graph)["runs"]) == 1


@pytest.mark.parametrize("mode", [MUTED, BYPASSED])
@pytest.mark.parametrize("node", ["nag", "last"])
def test_no_runs_where_the_node_or_the_sampler_does_not_run(plan, node, mode):
    graph = with_ksampler()
    graph[node] = (*graph[node], mode)
    assert plan_of(plan, graph)["runs"] == []


def test_bypassed_options_do_not_count(plan):
    graph = with_ksampler({"end_percent": 0.1})
    graph["options"] = (*graph["options"], BYPASSED)
    assert plan_of(plan, graph)["settings"]["end_percent"] == 1.0


def test_last_nag_node_on_a_model_counts(plan):
    graph = {**with_ksampler(), "second": nag_model(model=["nag", 0])}
    graph["last"] = ksampler(model="second")
    answer = plan(graph)["nodes"]
    assert answer["nag"]["runs"] == [] and len(answer["second"]["runs"]) == 1
    assert answer["nag"]["message"].startswith("Replaced by NAG Model #second behind it")
    assert answer["second"]["message"] is None


def test_number_from_a_primitive_node(plan):
    graph = {**with_ksampler(), "number": ("PrimitiveFloat", {"value": 7.5})}
    graph["nag"] = nag_model(nag_scale=["number", 0])
    assert plan_of(plan, graph)["settings"]["nag_scale"] == 7.5


def test_number_that_is_made_when_the_graph_runs(plan):
    graph = {**with_ksampler(), "nag": nag_model(nag_scale=["load", 0])}
    node = plan_of(plan, graph)
    assert node["settings"] is None and node["runs"][0]["on"] is None


@pytest.mark.parametrize("wrong", [{"nag_scale": "much"}, {"nag_tau": 99}, {"nag_alpha": True, "nag_tau": -1}])
def test_wrong_setting_is_named(plan, wrong):
    node = plan_of(plan, {**with_ksampler(), "nag": nag_model(**wrong)})
    assert list(wrong)[-1] in node["message"] and node["runs"][0]["on"] is None


def test_options_that_contradict_each_other(plan):
    assert "start_percent" in plan_of(plan, with_ksampler({"start_percent": 0.9, "end_percent": 0.2}))["message"]


class AnotherPacksNode:
    """Changes a model in a way of its own."""

    RETURN_TYPES, RELATIVE_PYTHON_MODULE = ("MODEL",), "custom_nodes.another"


def test_another_packs_node_makes_it_a_guess(plan, monkeypatch):
    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, "Another", AnotherPacksNode)
    graph = {**with_ksampler(), "other": ("Another", {"model": ["nag", 0]}), "last": ksampler(model="other")}
    node = plan_of(plan, graph)
    assert node["family"] == "Flux" and not node["runs"][0]["exact"] and node["runs"][0]["sigmas"]


class Everywhere(AnotherPacksNode):
    """Connects what it gets wherever it is lacking, in the prompt alone."""

    RETURN_TYPES = ()


@pytest.mark.parametrize(("lacking", "says", "sent"), [
    (("nag", "model"), "Nothing is connected to model", ["load", 0]), (("last", "negative"), "no negative", ["no", 0]),
])  # fmt: skip
def test_what_may_be_connected_when_it_is_queued(plan, monkeypatch, lacking, says, sent):
    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, "Everywhere", Everywhere)
    graph, (node_id, name) = with_ksampler(), lacking
    del graph[node_id][1][name]
    with_end = lambda link: {**graph, "end": ("Everywhere", {"anything": link})}
    for other in (graph, with_end(["load", 2])):
        assert says in plan_of(plan, other)["message"]
    assert_says(plan_of(plan, with_end(sent)), None)


class AnotherPacksGuider(AnotherPacksNode):
    RETURN_TYPES = ("GUIDER",)


@pytest.mark.parametrize(("name", "is_known"), [("positive", True), ("target_cond", False)])
def test_a_guider_that_names_its_conditionings_otherwise(plan, monkeypatch, name, is_known):
    """A model's NAG may guide none of them; that of a conditioning acts wherever it goes."""
    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, "Other", AnotherPacksGuider)
    graph = {**guided_by("Other", **{name: ["yes", 0]}), "model": nag_model(nag_negative=["no", 0])}
    (run,) = plan_of(plan, graph, "model")["runs"]
    assert True in run["on"] if is_known else run["on"] is None
    by_conditioning = {**custom(("Other", {"model": ["load", 0], name: ["it", 0]})), "it": nag_conditioning()}
    (run,) = plan_of(plan, by_conditioning, "it")["runs"]
    assert True in run["on"]


def test_another_packs_sampler_is_read_like_ours(plan):
    graph = {**with_ksampler(), "last": ("SomeSampler", ksampler()[1])}
    (run,) = plan_of(plan, graph)["runs"]
    assert run["steps"] == 6 and not run["exact"]


def test_schedule_of_another_pack(plan):
    (run,) = plan_of(plan, custom(sigmas=("SomeScheduler", {"steps": 5})))["runs"]
    assert run["steps"] == 5 and run["sigmas"] is None and not run["exact"]
    node = plan_of(plan, custom(sigmas=("SomeScheduler", {"curve": "steep"})))
    assert node["runs"] == [] and node["reached"] and not plan_of(plan, {"nag": nag_model()})["reached"]
    without = custom()
    del without["last"][1]["sigmas"]
    node = plan_of(plan, without)
    assert node["runs"] == [] and node["reached"]


@pytest.mark.parametrize("broken", [
    {"steps": 0}, {"steps": "many"}, {"steps": 10**9}, {"denoise": 1e-9}, {"denoise": "all"}, {"denoise": float("nan")},
    {"denoise": float("inf")}, {"denoise": -1}, {"scheduler": []}, {"scheduler": "unknown"},
    {"sampler_name": {}}, {"steps": None}, {"steps": ["load", 0]}, {"model": ["gone", 0]},
    {"model": None},
])  # fmt: skip
def test_sampler_with_broken_widgets(plan, broken):
    for run in plan_of(plan, with_ksampler(**broken))["runs"]:
        assert not run["exact"]


@pytest.mark.parametrize("start", ["early", None, float("nan"), 2, ["load", 0]])
def test_part_of_the_sampling_that_cannot_be_read(plan, start):
    assert plan_of(plan, with_parts(behind=(start, 1.0)))["runs"][0]["on"] is None


def test_graph_that_goes_in_circles(plan):
    graph = with_ksampler()
    graph["nag"] = nag_model(model=["b", 0])
    graph["b"] = ("ModelSamplingSD3", {"model": ["nag", 0], "shift": 3.0})
    (run,) = plan_of(plan, graph)["runs"]
    assert not run["exact"]
    sigmas = {"sigmas": ("FlipSigmas", {"sigmas": ["flip", 0]}), "flip": ("FlipSigmas", {"sigmas": ["sigmas", 0]})}
    assert plan_of(plan, custom(**sigmas))["runs"] == []


# ---------------------------------------------------------------- where NAG will not act


def changed(graph, node_id, **inputs):
    kind, before, *mode = graph[node_id]
    return {**graph, node_id: (kind, {**before, **inputs}, *mode)}


def behind(graph, node_id, kind, sampler="last", name="negative", **inputs):
    """The graph with a node in front of an input of the sampler; inputs: in which {} stands for what was there."""
    was = graph[sampler][1][name]
    made = {each: was if value == {} else value for each, value in inputs.items()}
    return changed({**graph, node_id: (kind, made)}, sampler, **{name: [node_id, 0]})


def encode(text, clip="load"):
    return ("CLIPTextEncode", {"text": text, "clip": [clip, 1]})


def nag_conditioning(positive="yes", negative="no", **inputs):
    return ("NAGConditioning", {"positive": [positive, 0], "negative": [negative, 0], **AUTO, **inputs})


def with_words(text):
    graph = {**with_ksampler(), "words": ("PrimitiveStringMultiline", {"value": text})}
    return changed(graph, "no", text=["words", 0])


def combined(*texts, positive=("a blue square",)):
    """The sampler's negative of several texts, and its positive."""
    graph = with_ksampler()
    for name, of_one in (("negative", texts), ("positive", positive)):
        graph[f"{name}0"] = encode(of_one[0])
        last = f"{name}0"
        for i, text in enumerate(of_one[1:], 1):
            graph[f"{name}{i}"] = encode(text)
            both = {"conditioning_1": [last, 0], "conditioning_2": [f"{name}{i}", 0]}
            last = f"{name}both{i}"
            graph[last] = ("ConditioningCombine", both)
        graph = changed(graph, "last", **{name: [last, 0]})
    return graph


def of_two(weight=0.4):
    """The sampler's negative of two texts, of which the second is weaker."""
    graph = combined("white", "red")
    graph["weaker"] = ("ConditioningSetAreaStrength", {"conditioning": ["negative1", 0], "strength": weight})
    return changed(graph, "negativeboth1", conditioning_2=["weaker", 0])


def two_nags(kind="NAGModel", **inputs):
    """NAG Model, and another node with NAG's settings behind it."""
    graph = {**with_ksampler(), "behind": (kind, {"model": ["nag", 0], **AUTO, **inputs})}
    return changed(graph, "last", model=["behind", 0])


def with_both(positive="nag2", silent=False):
    """NAG Model, and NAG Conditioning on the positive."""
    numbers = {"nag_scale": 1.0} if silent else {}
    return {**with_ksampler(positive=[positive, 0]), "nag2": nag_conditioning(**numbers)}


def guided_by(kind, **inputs):
    """SamplerCustomAdvanced with a guider that gets NAG Model's model."""
    graph = custom((kind, {"model": ["model", 0], **inputs}))
    return {**graph, "model": nag_model()}


def joined(kind, **texts):
    """A positive that is made of two texts, one of them with NAG Conditioning."""
    return {**with_conditioning(), "both": (kind, texts)}


CONTROL = {"positive": ["yes", 0], "negative": ["nag", 0], "strength": 1.0}
POSITIVE_TOO = {"positive": ["nag", 0], "negative": ["nag", 0]}
ON_NEGATIVE = {**playground(), "nag": nag_conditioning(), "last": ksampler(model="load", negative=["nag", 0])}
NOWHERE = "The NAG negative has a strength of 0, or a mask that is 0 everywhere"
BLANK, ZEROED, SAME = "text of the NAG negative is empty", "negative is zeroed", "negative is the same as the positive"
NONE, GIVE = "NAG has no negative: this sampler or guider brings none", "NAG has no negative. Connect a prompt to {} "
IN_NEGATIVE = "output of NAG Conditioning goes into a sampler's negative"
GRID = {"vae": ["load", 2], "columns": "none", "column_values": "", "rows": "none", "row_values": ""}
FIRST_ONLY = "keeps the NAG of {} only, so this node's NAG is not used. Put this node behind it"
RANGE_OF = {"conditioning": {}, "start": 0.0, "end": 1.0}
ZERO = {"conditioning": {}}

# By name: the graph, and what is said of which nodes.
IDLE = {
    "a negative": (with_ksampler(), {"nag": None}),
    # wired into a negative
    "into a sampler's negative": (ON_NEGATIVE, {"nag": IN_NEGATIVE}),
    "into the negative by way of a node": (
        behind(ON_NEGATIVE, "part", "ConditioningSetTimestepRange", **RANGE_OF), {"nag": IN_NEGATIVE}),
    "into the negative of a node with both": (
        {**changed(ON_NEGATIVE, "last", positive=["both", 0], negative=["both", 1]),
         "both": ("ControlNetApplyAdvanced", CONTROL)}, {"nag": IN_NEGATIVE}),
    "into the positive of a node with both": (
        {**changed(ON_NEGATIVE, "last", positive=["both", 0], negative=["both", 1]),
         "both": ("ControlNetApplyAdvanced", {**CONTROL, "positive": ["nag", 0], "negative": ["no", 0]})},
        {"nag": None}),
    "into a guider's negative": (
        {**custom(("CFGGuider", {"model": ["load", 0], "positive": ["yes", 0], "negative": ["it", 0], "cfg": 1.0})),
         "it": nag_conditioning()}, {"it": IN_NEGATIVE}),
    "into the negative, zeroed, and the positive": (
        behind(changed(ON_NEGATIVE, "last", **POSITIVE_TOO), "zero", "ConditioningZeroOut", **ZERO), {"nag": None}),
    "into the negative of another NAG": (
        {**with_both(), "nag2": nag_conditioning("no", "yes"), "nag3": nag_conditioning(negative="nag2"),
         "last": ksampler(model="load", positive=["nag3", 0])}, {"nag2": IN_NEGATIVE, "nag3": None}),
    "another's in the negative, which ends the run": (
        {**with_ksampler(negative=["other", 0]), "other": nag_conditioning("no", "yes")},
        {"nag": IN_NEGATIVE, "other": IN_NEGATIVE}),
    # replaced
    "two on a model": (two_nags(), {"nag": "Replaced by NAG Model #behind behind it", "behind": None}),
    "the second is off": (
        two_nags(nag_alpha=0.0), {"nag": "Replaced by NAG Model #behind", "behind": "nag_alpha is 0"}),
    "the second is bypassed": (
        {**two_nags(), "behind": (*two_nags()["behind"], BYPASSED)}, {"nag": None}),
    "in front of NAG Sampler": (
        {**with_ksampler(), "last": ksampler("NAGSampler", **AUTO)},
        {"nag": "Replaced by NAG Sampler #last behind it", "last": None}),
    "in front of NAG Grid": (
        {**with_ksampler(), "last": ksampler("NAGGrid", **GRID)}, {"nag": "Replaced by NAG Grid #last behind it"}),
    "in front of a NAG guider": (
        {**custom(changed(custom(CFG_GUIDER), "nag", model=["model", 0])["nag"]), "model": nag_model()},
        {"model": "Replaced by NAG CFG Guider #nag behind it", "nag": None}),
    "on the positive": (with_both(), {"nag": "Replaced by NAG Conditioning #nag2 on the positive", "nag2": None}),
    "off on the positive": (with_both(silent=True), {"nag": None, "nag2": "nag_scale is 1"}),
    "on one of two positives": (
        {**with_both("both"), "both": ("ConditioningCombine", {"conditioning_1": ["yes", 0],
                                                              "conditioning_2": ["nag2", 0]})},
        {"nag": None, "nag2": None}),
    "one conditioning behind another": (
        {**with_both("nag3"), "nag3": nag_conditioning("nag2")},
        {"nag": "Replaced by NAG Conditioning #nag3 on", "nag2": "Replaced by NAG Conditioning #nag3 behind it",
         "nag3": None}),
    # left behind
    "the second of two texts": (
        joined("ConditioningConcat", conditioning_from=["nag", 0], conditioning_to=["yes", 0]),
        {"nag": FIRST_ONLY.format("conditioning_to")}),
    "the first of two texts": (
        joined("ConditioningConcat", conditioning_from=["yes", 0], conditioning_to=["nag", 0]), {"nag": None}),
    "the second of two models": (
        {**with_ksampler(model="merged"),
         "merged": ("ModelMergeSimple", {"model1": ["load", 0], "model2": ["nag", 0], "ratio": 0.5})},
        {"nag": FIRST_ONLY.format("model1")}),
    "for one of two samplers": (
        {**two_nags(), "first": ksampler(steps=3)}, {"nag": None, "behind": None}),
    # no negative
    "BasicGuider": (guided_by("BasicGuider", conditioning=["yes", 0]), {"model": NONE}),
    "BasicGuider, its own": (
        changed(guided_by("BasicGuider", conditioning=["yes", 0]), "model", nag_negative=["no", 0]), {"model": None}),
    "CFGGuider": (
        guided_by("CFGGuider", positive=["yes", 0], negative=["no", 0], cfg=1.0), {"model": None}),
    "a negative that is muted": (
        {**with_ksampler(), "no": (*with_ksampler()["no"], MUTED)}, {"nag": NONE}),
    "another pack's guider": (guided_by("SomeGuider", cond_neg=["no", 0]), {}),
    "NAG CFG Guider without": (
        custom(changed(custom(CFG_GUIDER), "nag", nag_negative=None)["nag"]), {"nag": GIVE.format("nag_negative")}),
    "NAG Conditioning without": (
        changed(with_conditioning(), "nag", negative=None), {"nag": GIVE.format("nag_negative")}),
    "no model": (changed(with_ksampler(), "nag", model=None), {"nag": "Nothing is connected to model"}),
    "no positive": (changed(with_conditioning(), "nag", positive=None), {"nag": "Nothing is connected to positive"}),
    "NAG Guider without a positive": (
        changed(custom(), "nag", conditioning=None), {"nag": "Nothing is connected to positive"}),
    # it names nothing
    "empty": (changed(with_ksampler(), "no", text=" \n"), {"nag": BLANK}),
    "empty, by way of a node": (
        behind(changed(with_ksampler(), "no", text=""), "part", "ConditioningSetTimestepRange", **RANGE_OF),
        {"nag": BLANK}),
    "empty in a text node": (with_words(""), {"nag": BLANK}),
    "a text node": (with_words("white"), {"nag": None}),
    "one of two empty": (combined("", "white"), {"nag": None}),
    "both empty": (combined("", " "), {"nag": BLANK}),
    "zeroed": (behind(with_ksampler(), "zero", "ConditioningZeroOut", **ZERO), {"nag": ZEROED}),
    "its own, empty": (
        {**changed(with_ksampler(), "nag", nag_negative=["own", 0]), "own": encode("")}, {"nag": BLANK}),
    "its own beside an empty one": (
        {**changed(changed(with_ksampler(), "no", text=""), "nag", nag_negative=["own", 0]), "own": encode("white")},
        {"nag": None}),
    "NAG Conditioning's, empty": (changed(with_conditioning(), "no", text=""), {"nag": BLANK}),
    # it is nowhere
    "at a strength of 0": (
        behind(with_ksampler(), "none", "ConditioningSetAreaStrength", conditioning={}, strength=0.0),
        {"nag": NOWHERE}),
    "one of two at a strength of 0": (of_two(0.0), {"nag": None}),
    # the same
    "the same node": (with_ksampler(negative=["yes", 0]), {"nag": SAME}),
    "the same text": (changed(with_ksampler(), "no", text="a blue square"), {"nag": SAME}),
    "the same text by a node that keeps it": (
        behind(changed(with_ksampler(), "no", text="a blue square"), "part", "ConditioningSetTimestepRange",
               name="positive", **RANGE_OF), {"nag": SAME}),
    "the same text of another encoder": (
        {**changed(changed(with_ksampler(), "no", text="a blue square"), "no", clip=["another", 1]),
         "another": ("NAGPlaygroundLoader", {})}, {"nag": None}),
    "the same texts": (combined("red", "white", positive=("red", "white")), {"nag": SAME}),
    "the same text, joined with another behind": (
        changed(joined("ConditioningConcat", conditioning_to=["nag", 0], conditioning_from=["no", 0]),
                "no", text="a blue square"), {"nag": None}),
    "one text of two": (combined("red", positive=("red", "white")), {"nag": None}),
}  # fmt: skip


@pytest.mark.parametrize("name", IDLE)
def test_what_keeps_nag_from_acting(plan, name):
    graph, says = IDLE[name]
    answer = plan({node_id: (kind, {n: v for n, v in inputs.items() if v is not None}, *mode)
                   for node_id, (kind, inputs, *mode) in graph.items()})["nodes"]  # fmt: skip
    for node_id, said in says.items():
        assert_says(answer[node_id], said)
    if not says:
        assert not [node for node in answer.values() if node["message"]]


NOT_RUN = {  # a node or an input is missing there, there are two ends, or what differs is the same but for its name
    "into the negative of a node with both", "into the positive of a node with both", "the second is bypassed",
    "for one of two samplers", "a negative that is muted", "another pack's guider", "NAG CFG Guider without",
    "NAG Conditioning without", "no model", "no positive", "NAG Guider without a positive", "empty in a text node",
    "a text node", "the same text of another encoder",
}  # fmt: skip
NOBODY_ASKS = {name for name, (_, says) in IDLE.items() if "behind it" in str(says)} | {
    "into the negative of another NAG", "the second is off",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in IDLE if name not in NOT_RUN])
def test_what_keeps_nag_from_acting_does_so_in_a_run(plan, really, name):
    """And the run says the same, unless it is that nobody asks for this NAG."""
    graph, says = IDLE[name]
    for node_id in says:
        graph = changed(graph, node_id, options=["options", 0])
    planned, told = plan(graph)["nodes"], {}
    with contextlib.suppress(ValueError):
        ran = {}
        ran = really(graph, "last", told)
    for node_id, said in says.items():
        on = any(on for run in ran.get(node_id, []) for _, on in run)
        if said is None:
            assert on and not told[node_id]
        elif said != BLANK:  # which is seen in the prompt of a server
            assert told[node_id] or name in NOBODY_ASKS and not on
            assert not on or said in (ZEROED, SAME)
            assert all(each == re.sub(r" #\w+", "", planned[node_id]["message"]) for each in told[node_id])


def test_no_step_in_its_range(plan, monkeypatch):
    graph = with_ksampler({"start_percent": 1.0})
    assert plan_of(plan, graph)["message"].startswith("No step of the sampling lies where NAG acts")
    both = {**with_ksampler({"end_percent": 0.2}, denoise=0.5), "first": ksampler()}
    assert plan_of(plan, both)["message"] is None  # the first sampler has some
    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, "Another", AnotherPacksNode)
    guess = {**graph, "other": ("Another", {"model": ["nag", 0]}), "last": ksampler(model="other")}
    assert plan_of(plan, guess)["message"] is None  # it may have changed the sampling


def test_for_one_of_two_samplers_it_acts(plan):
    """By the guider of the one there is no negative."""
    graph = {**guided_by("BasicGuider", conditioning=["yes", 0]), "other": ksampler(model="model", steps=3)}
    node = plan(graph)["nodes"]["model"]
    assert node["message"] is None
    by_sampler = {run["sampler"]: (any(run["on"]), run["why"]) for run in node["runs"]}
    assert by_sampler["other"] == (True, None) and by_sampler["last"][0] is False and NONE in by_sampler["last"][1]


OTHER_NAGS = ("WanVideoNAG", "LTX2_NAG", "NAGuidance")


# ---------------------------------------------------------------- how strong, in which blocks, by which equation

SIX_STEPS = {  # by NAG Options and the node's own strength
    "constant": ({}, 1.0, [1] * 6),
    "the node's own": ({}, 0.5, [0.5] * 6),
    "linear": ({"schedule": "linear"}, 1.0, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
    "linear, weaker": ({"schedule": "linear"}, 0.6, [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
    "cosine": ({"schedule": "cosine"}, 1.0, [1, 0.933, 0.75, 0.5, 0.25, 0.067]),
    "a list": ({"schedule": "list", "strengths": "1; 0,5;0"}, 1.0, [1, 0.5, 0, 0, 0, 0]),
    "a list, at most 2": ({"schedule": "list", "strengths": "2, 1.5, 0.1"}, 1.5, [2, 2, 0.15, 0.15, 0.15, 0.15]),
    "a part": ({"schedule": "linear", "end_percent": 0.3}, 1.0, [1, 0.5, 0, 0, 0, 0]),
    "a list that is not asked for": ({"strengths": "what?"}, 1.0, [1] * 6),
}


@pytest.mark.parametrize("name", SIX_STEPS)
def test_strength_at_each_step(plan, name):
    options, strength, expected = SIX_STEPS[name]
    graph = {**with_ksampler(options), "nag": nag_model(strength=strength)}
    (run,) = plan_of(plan, graph)["runs"]
    assert run["strengths"] == pytest.approx(expected, abs=1e-3)
    assert run["on"] == [each > 0 for each in expected]


def test_strength_at_each_step_of_a_model_that_is_not_known(plan):
    graph = with_ksampler({"schedule": "linear", "start_percent": 0.2, "end_percent": 0.7})
    (run,) = plan_of(plan, {**graph, "nag": nag_model(model=["other", 0]), "other": ("SomeLoader", {})})["runs"]
    assert run["strengths"] == pytest.approx([0, 0, 1, 2 / 3, 1 / 3, 0]) and not run["exact"]


WRONG_OPTIONS = [
    ({"schedule": "list", "strengths": "1, strong"}, 'strengths must be numbers with commas between.*"1, strong"'),
    ({"schedule": "list", "strengths": "1, 3"}, "strengths must lie between 0 and 2, not 3"),
    ({"schedule": "list", "strengths": " "}, "give it strengths"),
    ({"schedule": "sudden"}, "schedule must be one of constant, linear"),
    ({"equation": "paper"}, "equation must be one of nag, orthogonal"),
    ({"equation": "vsf", "vsf_offset": 21}, "vsf_offset must lie between 0 and 20"),
    ({"equation": "vsf", "image_stream": "separate"}, "equation vsf has one image stream"),
    ({"blocks": "some of them"}, "some of them"),
    ({"blocks": "0-4"}, "'0-4' in blocks is not in this model. It has double 0 to 1 and single 0 to 1"),
    ({"blocks": "middle"}, "'middle' in blocks is not in this model"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "says"), WRONG_OPTIONS)
def test_options_that_are_wrong(plan, options, says):
    node = plan_of(plan, with_ksampler(options))
    assert re.search(says, node["message"].replace("\'1, strong\'", '"1, strong"'))
    assert not any(on for run in node["runs"] for on in run["on"] or [])


def test_a_list_of_zeros_is_off(plan):
    node = plan_of(plan, with_ksampler({"schedule": "list", "strengths": "0, 0"}))
    assert node["off"] and "strengths" in node["message"] and not any(node["runs"][0]["on"])


@pytest.mark.parametrize(("blocks", "acting"), [("all", None), ("0-3", None), ("double", 2), ("0, single 1", 2),
                                                ("3", 1)])  # fmt: skip
def test_blocks(plan, blocks, acting):
    node = plan_of(plan, with_ksampler({"blocks": blocks}))
    assert node["blocks"] == (acting and {"acting": acting, "of": 4}) and node["message"] is None


@pytest.mark.parametrize("equation", ["nag", "orthogonal", "vsf", "nasa"])
def test_numbers_that_an_equation_does_not_use(plan, equation):
    settings = plan_of(plan, with_ksampler({"equation": equation}))["settings"]
    capped = equation in ("nag", "orthogonal")
    scale = 5.0 if capped else 1.25
    assert (settings["equation"], settings["capped"], settings["nag_scale"]) == (equation, capped, scale)
    assert (settings["nag_tau"], settings["nag_alpha"]) == ((2.5, 0.25) if capped else (None, None))


def test_options_of_a_graph_that_is_older(plan):
    graph = with_ksampler({"end_percent": 0.5})
    for name in ("statistics", "modality", "unknown_models", "equation", "schedule", "strengths", "blocks"):
        graph["options"][1].pop(name, None)
    settings = plan_of(plan, graph)["settings"]
    assert (settings["equation"], settings["schedule"], settings["blocks"]) == ("nag", "constant", "all")


PLACE = {"conditioning": {}, "width": 1.0, "height": 0.5, "x": 0.0, "y": 0.0}
PART, ALL_OF_IT = {**PLACE, "strength": 1.0}, {**PLACE, "height": 1.0, "strength": 0.4}
MASK = {"conditioning": {}, "mask": ["mask", 0], "strength": 0.5, "set_cond_area": "default"}


def weighted(*nodes):
    """The sampler's negative behind nodes, each (type, inputs)."""
    graph = {**with_ksampler(), "mask": ("SolidMask", {"value": 1.0, "width": 64, "height": 64})}
    for number, (kind, inputs) in enumerate(nodes):
        graph = behind(graph, f"set{number}", kind, **inputs)
    return graph


STRENGTH_OF = {"conditioning": {}, "strength": 0.4}
NEGATIVES_SAID = {
    "plain": (weighted(), None, False),
    "a weight": (weighted(("ConditioningSetAreaStrength", STRENGTH_OF)), [0.4], False),
    "an area": (weighted(("ConditioningSetAreaPercentage", PART)), None, True),
    "the whole as an area": (weighted(("ConditioningSetAreaPercentage", ALL_OF_IT)), [0.4], False),
    "a mask": (weighted(("ConditioningSetMask", MASK)), [0.5], True),
    "a mask with a weight": (
        weighted(("ConditioningSetAreaStrength", STRENGTH_OF), ("ConditioningSetMask", MASK)), [0.2], True),
    "a weight from a node": (
        {**weighted(("ConditioningSetAreaStrength", {"conditioning": {}, "strength": ["n", 0]})),
         "n": ("PrimitiveFloat", {"value": 0.3})}, [0.3], False),
    "a weight that is made in the run": (
        weighted(("ConditioningSetAreaStrength", {"conditioning": {}, "strength": ["load", 0]})), [None], False),
    "two": (of_two(), [1, 0.4], False),
    "its own": (
        changed({**weighted(), "own": ("ConditioningSetAreaStrength", {"conditioning": ["no", 0], "strength": 2.0})},
                "nag", nag_negative=["own", 0]), [2.0], False),
}  # fmt: skip


@pytest.mark.parametrize("name", NEGATIVES_SAID)
def test_weights_and_places_of_the_negative(plan, name):
    graph, weights, placed = NEGATIVES_SAID[name]
    node = plan_of(plan, graph)
    assert node["negative"] == {"weights": weights and pytest.approx(weights), "placed": placed}
    assert node["message"] is None


def in_parts(first, second):
    """Two texts, the second weaker, each in a part of the sampling."""
    graph, whole = of_two(), {"conditioning_1": ["negative0", 0], "conditioning_2": ["weaker", 0]}
    for number, (source, part) in enumerate(zip(whole.values(), (first, second))):
        start, end = part
        given = {"conditioning": source, "start": start, "end": end}
        graph[f"part{number}"] = ("ConditioningSetTimestepRange", given)
    return changed(graph, "negativeboth1", conditioning_1=["part0", 0], conditioning_2=["part1", 0])


def in_a_mask(graph):
    """The whole negative of a graph with a mask."""
    graph = {**graph, "mask": ("SolidMask", {"value": 1.0, "width": 64, "height": 64})}
    return behind(graph, "masked", "ConditioningSetMask", **MASK)


WITHIN, NO_LAYOUT = "have unequal weights or masks", "which token shows which part"
NEGATIVES_OF = {  # a file, the graph, and what is said
    "two weights": ("pixart_sigma", of_two(), WITHIN),
    "two weights elsewhere": ("flux_dev", of_two(), None),
    "two of one weight": ("pixart_sigma", of_two(1.0), None),
    "one of two at 0": ("pixart_sigma", of_two(0.0), None),
    "one weight for two": (
        "pixart_sigma", behind(combined("white", "red"), "w", "ConditioningSetAreaStrength", **STRENGTH_OF), None),
    "a weight that is made in the run": (
        "pixart_sigma", changed(of_two(), "weaker", strength=["load", 0]), None),
    "two weights, one after the other": ("pixart_sigma", in_parts((0.0, 0.4), (0.5, 1.0)), None),
    "two weights, for a while together": ("pixart_sigma", in_parts((0.0, 0.5), (0.4, 1.0)), WITHIN),
    "two weights, nobody knows when": ("pixart_sigma", in_parts((0.0, ["load", 0]), (0.5, 1.0)), None),
    "a mask": ("pixart_sigma", in_a_mask(with_ksampler()), None),
    "a mask on two": ("pixart_sigma", in_a_mask(combined("white", "red")), WITHIN),
    "a mask where nobody knows the layout": ("minimax_h3", in_a_mask(with_ksampler()), NO_LAYOUT),
    "an area there": ("minimax_h3", weighted(("ConditioningSetAreaPercentage", PART)), NO_LAYOUT),
    "a weight there": ("minimax_h3", of_two(), None),
    "a mask on what is not declared": ("unknown", in_a_mask(with_ksampler()), None),
}  # fmt: skip


@pytest.mark.parametrize("name", NEGATIVES_OF)
def test_a_negative_that_a_model_can_not_have(plan, model_folder, request, name):
    of_file, graph, says = NEGATIVES_OF[name]
    if of_file == "unknown":
        load = request.getfixturevalue("unknown")["load"]
    else:
        (kind, widget), make = {**FILES, **WITH_DOORS}[of_file][:2]
        write_file(model_folder / "m.safetensors", make()[0])
        load = (kind, {widget: "m.safetensors"})
    node = plan_of(plan, {**graph, "load": load})
    if name.endswith("nobody knows when"):
        assert node["message"] is node["runs"][0]["on"] is None
    else:
        assert_says(node, says)
    assert node["family"] is not None


def test_a_mask_on_a_sound(part):
    model, entry = BY_NAME["stable_audio1"].patcher().model, part("nodes.prompt").Entry
    adapter = part("patches.models").find_adapter(model)
    says = lambda **fields: part("editor.obstacles").of_entries(adapter, model, [entry("white", **fields)])
    assert "makes sound alone" in says(placed=True, masked=True)
    assert says(placed=True) is None is says()


@pytest.mark.parametrize("kind", OTHER_NAGS)
@pytest.mark.parametrize("order", ["before", "behind"])
def test_another_nag_on_the_model(plan, monkeypatch, kind, order):
    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, kind, AnotherPacksNode)
    graph = with_ksampler()
    other = lambda model, **inputs: (kind, {"model": [model, 0], "nag_scale": 5.0, **inputs})
    if order == "before":
        graph = changed({**graph, "other": other("load")}, "nag", model=["other", 0])
    else:
        graph = changed({**graph, "other": other("nag")}, "last", model=["other", 0])
    says = "ComfyUI's own node" if kind == "NAGuidance" else f"{kind} #other puts another NAG on this model"
    assert_says(plan(graph)["nodes"]["nag"], says)
    if kind != "NAGuidance":  # there 0 is off
        assert_says(plan(changed(graph, "other", nag_scale=0.0))["nodes"]["nag"], None)


def test_comfyuis_own_nag_beside_ours_on_a_unet(plan, model_folder, monkeypatch):
    """There both act."""
    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, "NAGuidance", AnotherPacksNode)
    write_file(model_folder / "m.safetensors", of_sdxl()[0])
    graph = with_file(CHECKPOINT, "m.safetensors")
    graph = changed({**graph, "other": ("NAGuidance", {"model": ["nag", 0]})}, "last", model=["other", 0])
    assert_says(plan(graph)["nodes"]["nag"], None)


# ---------------------------------------------------------------- over HTTP


def test_route_answers_as_plan_does(client, plan):
    graph = with_ksampler({"end_percent": 0.5})
    nodes = {i: {"type": kind, "mode": 0, "inputs": inputs} for i, (kind, inputs) in graph.items()}
    assert json.loads(client.post("/nag/plan", {"nodes": nodes})) == plan(graph)
    assert json.loads(client.post("/api/nag/plan", {"nodes": {}}))["nodes"] == {}


@pytest.mark.parametrize("body", [
    None, 3, [], {}, {"nodes": 3}, {"nodes": {"1": 3}}, {"nodes": {"1": {}}}, {"nodes": {"1": {"type": 3}}},
    {"nodes": {"1": {"type": "KSampler", "mode": "on"}}}, {"nodes": {"1": {"type": "KSampler", "inputs": []}}},
])  # fmt: skip
def test_malformed_body_is_refused(client, body):
    import urllib.error

    with pytest.raises(urllib.error.HTTPError) as refusal:
        client.post("/nag/plan", body)
    with refusal.value as answer:
        assert answer.code == 400 and json.load(answer)["error"]
