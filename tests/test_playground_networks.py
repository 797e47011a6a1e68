"""The playground's networks: each is built of ComfyUI's classes, sampled by ComfyUI, and guided by the pack."""
import re

import comfy.model_base
import comfy.sample
import comfy.samplers
import comfy.utils
import nodes as comfy_nodes
import pytest
import torch

from runs import difference
from stock import stock

PROMPTS = {"shapes": ("a red circle on white", "red"), "clips": ("a circle moving left", "left"),
           "emoji": ("a cat on blue", "noto")}
CLASSES = {"flux": "Flux", "emoji": "Flux", "sd3": "SD3", "unet": "SDXL", "wan": "WAN21"}
UNREAD = {  # Wan takes no pooled text; nobody asks what the text of SD3's last block attends to
    "wan": {"projection.weight", "projection.bias"}, "sd3": {"joint_blocks.3.context_block.attn.ln_q.weight"},
}
STEPS = 3


@pytest.fixture(scope="module")
def networks(part):
    return part("playground.networks")


def test_all_are_tested(networks):
    assert set(networks.NAMES) == set(CLASSES)


@pytest.fixture(scope="module", params=CLASSES)
def trained(request, networks, tmp_path_factory):
    """(name, file, diffusion_model, text_model): as if it were trained, with weights that say something, and saved."""
    torch.manual_seed(0)
    name = request.param
    model, clip = networks.build(name)
    model, encoder = model.diffusion_model, networks.text_model(clip)
    networks.initialise(name, model, encoder)
    with torch.no_grad():
        for parameter in (*model.parameters(), *encoder.parameters()):  # half of them start as nothing
            parameter.add_(torch.randn_like(parameter), alpha=0.1).copy_(parameter.half())
    path = tmp_path_factory.mktemp(name) / "weights.safetensors"
    networks.save(name, model, encoder, path, {"steps": "0"})
    return name, path, model, encoder


@pytest.fixture(scope="module")
def loaded(networks, trained):
    """(MODEL, CLIP, VAE, positive, negative, noise)."""
    name, path, *_ = trained
    with torch.inference_mode():
        model, clip, vae = networks.load(path)
        texts = PROMPTS[networks.world_of(name).name]
        prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts]
        torch.manual_seed(1)
        return model, clip, vae, *prompts, torch.randn(2, *networks.latent_shape(name))


def sample(loaded, model=None, cfg=1.0):
    stock, _, _, positive, negative, noise = loaded
    return comfy.sample.sample(model or stock, noise, STEPS, cfg, "euler", "simple", positive, negative,
                               torch.zeros_like(noise), disable_pbar=True, seed=0)


def test_it_is_small_and_of_comfyuis_class(trained, loaded):
    name, path, *_ = trained
    assert isinstance(loaded[0].model, getattr(comfy.model_base, CLASSES[name]))
    assert path.stat().st_size < 4.7e6


def test_what_was_saved_is_loaded(networks, trained, loaded):
    _, _, model, encoder = trained
    for ours, theirs in ((model, loaded[0].model.diffusion_model), (encoder, networks.text_model(loaded[1]))):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for key, tensor in theirs.state_dict().items():
            assert torch.equal(tensor, ours.state_dict()[key]), key


@pytest.mark.parametrize("name", ["scale", "weight"])
def test_a_file_of_another_host_is_loaded(networks, tmp_path, name):
    """Hosts differ in what they call the weights of Flux's norms; a file may come from either."""
    weights, metadata = comfy.utils.load_torch_file(str(networks.path_of("flux")), return_metadata=True)
    renamed = {re.sub(r"(query|key)_norm\.\w+$", rf"\1_norm.{name}", key): value for key, value in weights.items()}
    comfy.utils.save_torch_file(renamed, str(tmp_path / "flux.safetensors"), metadata=metadata)
    models = [networks.load(which)[0].model.diffusion_model for which in ("flux", tmp_path / "flux.safetensors")]
    ours, theirs = (model.state_dict() for model in models)
    norms = [key for key in renamed if key.endswith(f"key_norm.{name}")]
    assert norms and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not all(torch.equal(value, torch.ones_like(value)) for key, value in ours.items() if "query_norm" in key)


def test_training_and_sampling_see_the_same(networks, trained, loaded, inference_mode):
    """velocity() of encode() of tokens(), by Euler's steps, is what KSampler makes of CLIPTextEncode's prompt."""
    name, _, model, encoder = trained
    stock, _, _, positive, _, x = loaded
    context, pooled = networks.encode(encoder, networks.tokens(name, [PROMPTS[networks.world_of(name).name][0]]))
    assert torch.equal(context, positive[0][0]) and torch.equal(pooled, positive[0][1]["pooled_output"])
    sigmas = comfy.samplers.calculate_sigmas(stock.get_model_object("model_sampling"), "simple", STEPS)
    for now, then in zip(sigmas[:-1], sigmas[1:]):
        given = (t.expand(len(x), *t.shape[1:]) for t in (now[None], context, pooled))
        x = x + (then - now) * networks.velocity(name, model, x, *given)
    assert difference(sample(loaded), x) < 1e-5


def test_all_that_is_used_has_a_gradient(networks, trained):
    name, _, model, encoder = trained
    model.requires_grad_(True), encoder.requires_grad_(True)
    context, pooled = networks.encode(encoder, networks.tokens(name, ["", PROMPTS[networks.world_of(name).name][0]]))
    x, sigma = torch.randn(2, *networks.latent_shape(name)), torch.tensor([0.3, 0.9])
    networks.velocity(name, model, x, sigma, context, pooled).square().mean().backward()
    gradients = {key: p.grad for part in (model, encoder) for key, p in part.named_parameters()}
    assert {key for key, value in gradients.items() if value is None or not value.any()} == UNREAD.get(name, set())


def test_a_fresh_one_says_nothing(networks, trained):
    """A network starts as zero, at which each of its blocks is out of the way."""
    name = trained[0]
    model, clip = networks.build(name)
    networks.initialise(name, model.diffusion_model, networks.text_model(clip))
    context, pooled = networks.encode(networks.text_model(clip), networks.tokens(name, [""]))
    x = torch.randn(1, *networks.latent_shape(name))
    assert not networks.velocity(name, model.diffusion_model, x, torch.ones(1), context, pooled).any()


def test_nag_acts_and_off_is_bit_identical(nodes, loaded, inference_mode):
    without = sample(loaded)
    guided = nodes.NAGModel.execute(model=loaded[0]).result[0]
    assert difference(sample(loaded, guided), without) > 1e-3
    off = nodes.NAGModel.execute(model=loaded[0], nag_scale="1").result[0]
    assert torch.equal(sample(loaded, off), without)
    assert torch.equal(sample(loaded), without)


def test_all_prompts_are_padded_alike(networks, trained, loaded):
    name, clip = trained[0], loaded[1]
    world = networks.world_of(name)
    long = " ".join([world.WORDS[0]] * world.MAX_WORDS)
    assert networks.tokens(name, ["", long]).shape == (2, world.MAX_WORDS + 2)
    assert clip.encode_from_tokens(clip.tokenize("")).shape[1] == world.MAX_WORDS + 2
    for too_long in (lambda: clip.tokenize(f"{long} {world.WORDS[0]}"), lambda: networks.tokens(name, [f"{long} a"])):
        with pytest.raises(ValueError, match=f"at most {world.MAX_WORDS} words"):
            too_long()


def test_pictures_and_clips(networks, trained, loaded, inference_mode):
    """VAEDecode's pictures, four times as large and a clip's frames one by one, are VAEEncode's latents again."""
    name, vae = trained[0], loaded[2]
    frames = networks.world_of(name).FRAMES
    drawn = torch.rand(1, 3, *((frames,) if frames > 1 else ()), 8, 8) * 1.6 - 0.8
    smooth = torch.nn.functional.interpolate(drawn, size=(*drawn.shape[2:-2], 32, 32), mode="nearest")
    latent = networks.to_latent(smooth)
    assert torch.equal(networks.to_picture(latent), smooth)
    assert latent.shape[1:] == networks.latent_shape(name)
    (images,) = comfy_nodes.VAEDecode().decode(vae, {"samples": latent})
    assert images.shape == (frames, 128, 128, 3)
    middle = smooth.movedim(1, -1).reshape(frames, 32, 32, 3)[:, 2::4, 2::4]
    assert difference(images[:, 10::16, 10::16] * 2 - 1, middle) < 0.05
    (again,) = comfy_nodes.VAEEncode().encode(vae, images)
    assert again["samples"].shape == latent.shape
    assert difference(again["samples"], latent) < 0.2


def test_the_stock_nodes_for_empty_latents_will_do(networks, trained, loaded, inference_mode):
    """128 pixels wide, and 13 pictures, as of Wan's videos, for a clip of four."""
    model, _, vae, positive, negative, _ = loaded
    frames = networks.world_of(trained[0]).FRAMES
    if frames > 1:
        empty = stock("EmptyHunyuanLatentVideo", width=128, height=128, length=13, batch_size=1)[0]
    else:
        empty = stock("EmptyLatentImage", width=128, height=128, batch_size=1)[0]
    (painted,) = comfy_nodes.common_ksampler(model, 0, 1, 1.0, "euler", "simple", positive, negative, empty)
    assert comfy_nodes.VAEDecode().decode(vae, painted)[0].shape == (frames, 128, 128, 3)


@pytest.mark.parametrize("trained", ["unet"], indirect=True)
def test_pag_acts_on_the_unet(loaded, inference_mode):
    guided = stock("PerturbedAttentionGuidance", model=loaded[0], scale=2.0)[0]
    assert difference(sample(loaded, guided), sample(loaded)) > 1e-4


def test_the_first_one_has_its_masks(networks, inference_mode):
    """The file beside the code is as long a prompt as it has words, and reads as it did when it was trained."""
    model, clip, _ = networks.load()
    assert clip.encode_from_tokens(clip.tokenize("a red circle")).shape[1] == 5
    assert model.model.diffusion_model.hidden_size == 128


def test_a_missing_file_is_named(networks, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors should lie in"):
        networks.load(tmp_path / "gone.safetensors")


def test_names_are_files_beside_the_code(networks):
    assert networks.path_of("flux student") == networks.path_of("flux").with_name("flux_student.safetensors")
