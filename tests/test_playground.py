"""Load NAG Playground: which models it offers, and that each samples from its file."""
import pytest
import torch

from stock import stock


@pytest.fixture
def loader(part, tmp_path, monkeypatch):
    """The node's module, with untrained weights of all networks and of one student, and nothing else."""
    module, networks = part("nodes.playground"), part("playground.networks")
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    torch.manual_seed(0)
    for name in networks.NAMES:
        model, clip = networks.build(name)
        parts = model.diffusion_model, networks.text_model(clip)
        networks.initialise(name, *parts)
        networks.save(name, *parts, networks.path_of(name), {})
    (tmp_path / "flux_student.safetensors").write_bytes((tmp_path / "flux.safetensors").read_bytes())
    return module


def input_of(loader):
    (declared,) = loader.NAGPlaygroundLoader.define_schema().inputs
    return declared


def test_every_network_has_a_name(part, loader):
    assert tuple(loader.TEACHERS.values()) == part("playground.networks").NAMES
    there = [loader.FIRST, "tiny Flux", "tiny Flux, distilled", "tiny SD3.5", "tiny SDXL", "tiny Wan", "tiny emoji"]
    assert loader.choices() == input_of(loader).options == there


def test_old_graphs_load_the_first(loader, part):
    """Bit for bit what they did: without the input, and with its default."""
    old = part("playground.networks").load("playground")[0].model.state_dict()
    declared = input_of(loader)
    assert declared.optional and declared.default == loader.FIRST
    for given in ({}, {"model": declared.default}):
        loaded = loader.NAGPlaygroundLoader.execute(**given).result[0].model.state_dict()
        assert loaded.keys() == old.keys() and all(torch.equal(loaded[key], old[key]) for key in old)


@pytest.mark.parametrize("name", ["tiny Flux, distilled", "tiny SD3.5", "tiny SDXL", "tiny Wan", "tiny emoji"])
def test_each_paints(loader, inference_mode, name):
    """As the help page says: with what stock nodes make of a 128x128 picture, or clip of 13 frames."""
    model, clip, vae = loader.NAGPlaygroundLoader.execute(model=name).result
    size = {"width": 128, "height": 128, "batch_size": 1}
    if name == "tiny Wan":
        (latent,) = stock("EmptyHunyuanLatentVideo", length=13, **size)
    else:
        (latent,) = stock("EmptyLatentImage", **size)
    texts = ("a cat", "pink") if name == "tiny emoji" else ("a circle", "white")
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts)
    (sampled,) = stock("KSampler", model=model, seed=0, steps=2, cfg=3.0, sampler_name="euler", scheduler="simple",
                       positive=positive, negative=negative, latent_image=latent)  # fmt: skip
    (images,) = stock("VAEDecode", vae=vae, samples=sampled)
    assert images.shape == (4 if name == "tiny Wan" else 1, 128, 128, 3) and images.isfinite().all()


def test_what_is_not_there_is_named(loader):
    for name in ("huge Flux", "tiny SDXL, distilled", None):
        with pytest.raises(ValueError, match=f"The playground has no {name!r}. It has 'playground', 'tiny Flux', "):
            loader.NAGPlaygroundLoader.execute(model=name)


def test_a_word_that_a_world_does_not_know_is_named_with_those_it_knows(loader, part):
    _, clip, _ = loader.NAGPlaygroundLoader.execute(model="tiny Wan").result
    with pytest.raises(ValueError, match="does not know 'elephant'") as said:
        clip.tokenize("an elephant")
    world = part("playground.worlds").WORLDS["clips"]
    assert all(word in str(said.value) for word in world.WORDS)
