"""How evidence/ paints and judges rows: by ComfyUI's own sampling and the nodes, in batches as one by one."""
import argparse
import random

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import numpy
import pytest
import torch
from evidence import by_lot, cost, judging, paint, painting, raw, rows, strips, variants
from nodes import CLIPTextEncode, common_ksampler
from playground import networks
from playground.worlds import shapes

from subject import out

TEXTS = (("a circle on white", "red"), ("a red square and a circle", "blue"), ("", "a frame"))
CLOSE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two are slower than one where others compute, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def applied():
    return painting.Nodes()


def untrained(name):
    """(ModelPatcher, CLIP, VAE) of random weights, of which every layer says something."""
    model, clip = networks.build(name)
    generator = torch.Generator().manual_seed(0)
    for module in (model.diffusion_model, networks.text_model(clip)):
        for parameter in module.parameters():
            spread = 1.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.2
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu), clip, None


@pytest.fixture(scope="module", params=networks.NAMES)
def network(request):
    return request.param, untrained(request.param)


def painter(name, loaded, applied, seeds=2, batch=64, texts=TEXTS):
    return painting.Painter(name, loaded, applied, painting.Prompts.of(texts, seeds), batch)


def texts_of(name):
    world = networks.world_of(name)
    return [(world.describe(case.scene), case.negative) for case in world.CASES[:3]]


@pytest.mark.parametrize(("cfg", "nag"), [(3.0, None), (1.0, {"nag_scale": 7.0})])
def test_a_batch_is_what_ksampler_gives_one_by_one(network, applied, nodes, inference_mode, cfg, nag):
    name, loaded = network
    texts = texts_of(name)[:2]
    row = rows.Row("student", 2, cfg) if nag is None else rows.row("student", 2, cfg, **nag)
    found = painter(name, loaded, applied, texts=texts).paint(row)
    model, clip, _ = loaded
    guided = model if nag is None else out(nodes.NAGModel, model, **nag)
    for case, prompts in enumerate(texts):
        positive, negative = (CLIPTextEncode().encode(clip, text)[0] for text in prompts)
        for seed in range(2 - case):
            latent = {"samples": torch.zeros(1, *networks.latent_shape(name))}
            (sampled,) = common_ksampler(guided, painting.SEEDS_APART * case + seed, 2, cfg, "euler", "simple",
                                         positive, negative, latent)
            expected = networks.to_picture(sampled["samples"]).clamp(-1, 1)
            assert (found[2 * case + seed] - expected[0]).abs().max() < CLOSE
    assert found[0].std() > 0.05 and (found[0] - found[1]).abs().max() > 0.1


@pytest.fixture(scope="module")
def flux(applied):
    return painter("flux", untrained("flux"), applied)


def test_small_batches_are_the_same(flux, applied):
    row = rows.row("student", 2)
    small = painting.Painter("flux", untrained("flux"), applied, flux.prompts, 4)
    assert (small.paint(row) - flux.paint(row)).abs().max() < CLOSE


def test_each_setting_reaches_its_node(flux):
    base, nag = flux.paint(rows.Row("student", 4)), flux.paint(rows.row("student", 4))
    never = flux.paint(rows.row("student", 4, start_percent=1.0))
    assert torch.equal(never, base) and not torch.equal(nag, base)
    for settings in ({"end_percent": 0.5}, {"image_stream": "separate"}, {"strength": 0.5}, {"nag_tau": 1.0}):
        changed = flux.paint(rows.row("student", 4, **settings))
        assert not torch.equal(changed, nag) and not torch.equal(changed, base), settings


def test_pag_is_comfyuis(applied):
    """It changes a UNet's pictures, and NAG changes what it gives."""
    unet = painter("unet", untrained("unet"), applied)
    base, pag, both = (unet.paint(row) for row in (
        rows.Row("teacher", 2), rows.Row("teacher", 2, pag=3.0), rows.row("teacher", 2, pag=3.0)))
    assert min((a - b).abs().max() for a, b in ((base, pag), (pag, both), (base, both))) > 1e-3


# ---------------------------------------------------------------- the ablation
def features(seed):
    return torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("variant", "order", "capped"), [("", 1, True), ("no cap", 1, False), ("L2", 2, True)])
def test_variants(patches, pack, variant, order, capped):
    """As written out in float64; numbers by which the cap binds for some tokens and not for others."""
    scale, tau, alpha = 2.0, 2.2, 0.5
    positive, negative = (features(seed) * torch.linspace(0.1, 3, 5)[:, None] for seed in (1, 2))
    z_pos, z_neg = positive.double(), negative.double().flip(1)
    norm = lambda z: torch.linalg.vector_norm(z, ord=order, dim=-1, keepdim=True)
    z = z_pos + (scale - 1) * (z_pos - z_neg)
    ratio = norm(z) / norm(z_pos)
    assert (ratio > tau).any() and (ratio < tau).any()
    if capped:
        z = z * ratio.clamp_max(tau) / ratio
    expected = alpha * z + (1 - alpha) * z_pos
    equation = patches("arithmetic.equation")
    with variants.equation(pack, variant):
        found = equation.guide(positive, negative.flip(1), scale, tau, alpha)
        into = torch.empty_like(positive)
        equation.guide(positive, negative.flip(1), scale, tau, alpha, out=into)
    assert (found - expected).abs().max() < 1e-5 and torch.equal(found, into)


@pytest.mark.parametrize(("variant", "power"), [
    ("by angle", 1), ("by root of angle", 0.5), ("by difference", 1), ("against difference", -0.5)])
def test_weighted_tokens(patches, pack, variant, power):
    """nag_alpha by the angle or the difference of each token, 1 in the mean over those of a picture, as written out."""
    scale, tau, alpha = 3.0, 2.5, 0.6
    positive = features(1)
    negative = positive + torch.linspace(0.1, 2, 5)[:, None] * features(2)
    z_pos, z_neg = positive.double(), negative.double()
    one_norm = lambda z: z.abs().sum(-1, keepdim=True)
    if "angle" in variant:
        measure = 1 - (z_pos * z_neg).sum(-1, keepdim=True) / (z_pos.norm(dim=-1) * z_neg.norm(dim=-1))[..., None]
    else:
        measure = one_norm(z_pos - z_neg) / one_norm(z_pos)
    weight = measure**power
    alphas = (alpha * weight / weight.mean(1, keepdim=True)).clamp_max(1)
    assert (alphas == 1).any() or abs(power) < 1
    z = z_pos + (scale - 1) * (z_pos - z_neg)
    ratio = one_norm(z) / one_norm(z_pos)
    expected = alphas * z * ratio.clamp_max(tau) / ratio + (1 - alphas) * z_pos
    with variants.equation(pack, variant):
        found = patches("arithmetic.equation").guide(positive, negative, scale, tau, alpha)
    assert (found - expected).abs().max() < 1e-5


def test_tokens_weighted_by_the_share_of_attention(patches, pack):
    """As the softmax of all scores of a head gives it; the same picture, told twice, has the same weights."""
    merge, segments = patches("attention.override"), patches("arithmetic.segments").Segments(9, 2, 2)
    image, by = segments.image, torch.Generator().manual_seed(3)
    tokens = {"to_image": 9, "to_positive": 7, "to_negative": 9}
    parts = [(torch.randn(2, 3, n, 4, generator=by), 2 * torch.randn(2, 3, n, generator=by)) for n in tokens.values()]
    away, towards = parts[0][1][..., image].double().exp(), parts[2][1][..., image].double().exp()
    share = (towards / (away + towards)).mean(1)
    alpha = (0.3 * share / share.mean(1, keepdim=True)).unsqueeze(-1)
    assert 0.3 < alpha.max() < 1
    z = [part[0].double() for part in parts]
    merged = lambda which, of: (z[0][:, :, image] * away.unsqueeze(-1) + z[which][:, :, of] * weight) / (
        away.unsqueeze(-1) + weight)
    features = []
    for which, of in ((1, segments.image_of_known), (2, image)):
        weight = parts[which][1][..., of].double().exp().unsqueeze(-1)
        features.append(merged(which, of).transpose(1, 2).flatten(2))
    positive, negative = features
    extrapolated = positive + 2 * (positive - negative)
    cap = (1.5 * positive.abs().sum(-1) / extrapolated.abs().sum(-1)).clamp_max(1).unsqueeze(-1)
    with variants.equation(pack, rows.SHARE):
        found = merge.guide_joint(*parts, segments, 3.0, 1.5, 0.3)
    assert (found[:, image] - (alpha * extrapolated * cap + (1 - alpha) * positive)).abs().max() < 1e-5


def test_variants_reach_joint_attention_and_go(flux):
    """In which the equation is called from the merge."""
    settings = {"nag_scale": 20.0, "nag_tau": 1.0}
    shipped = flux.paint(rows.row("student", 2, **settings))
    for variant in variants.VARIANTS:
        assert not torch.equal(flux.paint(rows.row("student", 2, variant=variant, **settings)), shipped), variant
    assert torch.equal(flux.paint(rows.row("student", 2, **settings)), shipped)


def test_a_variant_goes_when_it_fails(patches, pack):
    equation, merge = patches("arithmetic.equation"), patches("arithmetic.merge")
    before = equation.guide_at_once, merge.guide_at_once, equation.kernels_for, merge.kernels_for
    with pytest.raises(RuntimeError), variants.equation(pack, "L2"):
        assert equation.guide_at_once is not before[0]
        raise RuntimeError
    assert (equation.guide_at_once, merge.guide_at_once, equation.kernels_for, merge.kernels_for) == before


# ---------------------------------------------------------------- judging
class Truth:
    """A judge that knows the scene of each drawn picture, and has nine features of it, each of its own colour."""

    def __init__(self, drawn):
        self.drawn = drawn

    def read(self, pictures):
        means = pictures.mean((2, 3))
        return [self.drawn[picture.sum().item()] for picture in pictures], torch.cat([means, means**2], 1)


@pytest.fixture
def judge(monkeypatch):
    drawn, draw = {}, shapes.draw

    def remembered(scenes, rng):
        pictures = draw(scenes, rng)
        drawn.update({picture.sum().item(): shapes.facts(scene) for picture, scene in zip(pictures, scenes)})
        return pictures

    monkeypatch.setattr(shapes, "draw", remembered)
    texts = [(shapes.describe(case.scene), case.negative) for case in shapes.CASES[:4]]
    return judging.Judge(shapes, Truth(drawn), painting.Prompts.of(texts, 16), compared=32)


def test_drawn_pictures_are_right(judge):
    found = judge.of_drawn()
    assert all(row.wanted.all() for row in found.values())
    assert 0.4 < found[raw.DRAWN].unwanted.mean() < 0.9 and not found[raw.DRAWN_WITHOUT].unwanted.any()
    assert all(row.odd.mean() < 0.2 for row in found.values())


def test_distances_know_what_is_unwanted(judge):
    """Pictures without the unwanted are nearer to such than to all, and the other way round."""
    found = judge.of_drawn()
    to_all, _, to_without, _ = found[raw.DRAWN].distances
    without_to_all, half, without_to_without, _ = found[raw.DRAWN_WITHOUT].distances
    assert to_all < to_without and without_to_without < without_to_all and half > 0


def test_what_is_seen_is_kept_fact_by_fact(judge):
    rng = random.Random(3)
    scenes = [shapes.complete(shapes.CASES[case].scene, rng) for case in judge.prompts.case]
    found = judge.see(shapes.draw(scenes, rng))
    for seen, scene in zip(found.seen, scenes):
        assert {fact for fact, there in zip(shapes.FACTS, seen) if there} == shapes.facts(scene)
    expected = [shapes.CASES[case].negative in shapes.facts(scene) for case, scene in zip(judge.prompts.case, scenes)]
    assert found.unwanted.tolist() == expected


def test_prompts_have_noise_of_their_own():
    prompts = painting.Prompts.of(TEXTS, 3)
    assert len(set(prompts.seed)) == 9 and prompts.case == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert numpy.bincount(numpy.array(prompts.seed) % judging.GROUPS).sum() == 9


# ---------------------------------------------------------------- all of it
PAINTED = [name for name in rows.MODELS if networks.path_of(f"{name} student").exists()]


@pytest.mark.parametrize("name", PAINTED)
def test_a_run(applied, name):
    run = paint.Run(name, applied, seeds=2, cases=3, drawn=4)
    found = dict(run.paint(["student, 1 step, nag"]))
    assert list(found) == ["student, 1 step, nag"] and list(run.raw.rows)[-1] == "student, 1 step, nag"
    (row,) = found.values()
    assert row.seen.shape == (6, len(run.raw.notes["facts"])) and row.wanted.any()
    assert not list(run.paint(["student, 1 step, nag"], known=found)), "it is there"


def test_a_run_of_prompts_by_lot(applied):
    run = paint.Run("sd3", applied, seeds=2, cases=3, drawn=4, lot=True)
    found = dict(run.paint(["student, 2 steps$"]))
    assert list(found) == ["student, 2 steps"] and found["student, 2 steps"].wanted.any()
    assert run.raw.seed.tolist() == [500, 501, 1500, 1501, 2500, 2501]
    assert tuple(map(tuple, run.raw.notes["cases"])) == run.prompts.texts == tuple(
        (shapes.describe(case.scene), case.negative) for case in by_lot.cases(shapes, 3))


def test_a_run_that_finds_nothing_missing_leaves_the_file(tmp_path):
    parser = argparse.ArgumentParser()
    paint.add_arguments(parser)
    asked = ["flux", "--rows", "student, 1 step$", "--missing", "--seeds", "2", "--cases", "2", "--drawn", "4"]
    for _ in range(2):
        paint.main(parser.parse_args([*asked, "--out", str(tmp_path)]))
    assert len(raw.Raw.load(tmp_path / "flux.npz").notes["runs"]) == 1


@pytest.mark.parametrize("name", PAINTED)
def test_strips_have_each_frame_of_the_first_seeds(applied, name):
    frames = strips.strip(name, applied)
    assert len(frames) == networks.world_of(name).FRAMES
    assert all(numpy.asarray(frame).std() > 20 for frame in frames)
    assert len(frames) == 1 or not numpy.array_equal(frames[0], frames[-1])


@pytest.mark.parametrize("name", [name for name in PAINTED if name in rows.WITH_PAG])
def test_costs_are_ratios_to_base(applied, name):
    found = cost.measure(name, applied, torch.device("cpu"), 1)
    assert list(found) == list(cost.methods(name)) and found["base"] == [1, 1, 1]
    assert found[f"CFG {rows.CFG:g}"][1] > 1.2
