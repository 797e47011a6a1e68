"""The playground's training: plain sampling is KSampler's, learning lowers the loss, what is seeded repeats."""
import random

import comfy.sample
import pytest
import torch

NAMES = ("flux", "sd3", "unet", "wan", "emoji")
FEW = ["--batch", "4", "--check", "99", "--count", "2", "--threads", "1"]


@pytest.fixture(autouse=True)
def own_settings():
    """Random numbers of its own; and one thread, since two that wait for each other take minutes on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def untrained(part):
    """A Flow that sees something: its last layers are zero when training begins."""
    def build(name):
        flow = part("playground.flow").Flow.untrained(name).requires_grad_(False).eval()
        for parameter in flow.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        return flow

    return build


def teach(part, path, steps, seed=0):
    train = part("playground.train")
    options = ["flux", "--out", str(path), "--steps", str(steps), "--pool", "16", "--seed", str(seed), *FEW]
    return train.teach(train.parse(options))


# ---------------------------------------------------------------- sampling
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps, cfg", [(2, 1.0), (4, 3.0)])
def test_plain_sampling_is_ksamplers(part, untrained, tmp_path, name, steps, cfg):
    networks, world = part("playground.networks"), part("playground.networks").world_of(name)
    untrained(name).save(tmp_path / "flow.safetensors", {})
    model, clip, _ = networks.load(tmp_path / "flow.safetensors")
    flow = part("playground.flow").Flow(name, model.model, clip).requires_grad_(False).eval()
    prompt = world.random_request(random.Random(3))[0]
    noise = torch.randn(2, *networks.latent_shape(name))
    ours = flow.sample(noise, networks.tokens(name, [prompt] * 2), steps, cfg)
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, ""))
    theirs = comfy.sample.sample(model, noise, steps, cfg, "euler", "simple", positive, negative,
                                 torch.zeros_like(noise), disable_pbar=True, seed=0)
    assert (ours - noise).abs().mean() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-4)


# ---------------------------------------------------------------- the teacher
def test_a_teacher_learns(part, tmp_path):
    train, learning, networks = (part(f"playground.{name}") for name in ("train", "learning", "networks"))
    pool = learning.Pool("flux", 16, 0, "cpu")
    images, tokens = networks.to_latent(pool.pictures.float() / 127.5 - 1), pool.tokens
    before, after = part("playground.flow").Flow.untrained("flux"), teach(part, tmp_path / "flux.safetensors", 60)
    losses = []
    for flow in (before, after):
        torch.manual_seed(1)
        with torch.no_grad():
            losses.append(train.flow_loss(flow.eval(), images, tokens, 3.0).item())
    assert losses[1] < 0.8 * losses[0]


def test_a_seed_repeats(part, tmp_path):
    first, again, other = (teach(part, tmp_path / "flux.safetensors", 3, seed) for seed in (0, 0, 1))
    for a, b in zip(first.parameters(), again.parameters()):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))


def test_a_time_limit_ends_it(part, tmp_path, capsys):
    train = part("playground.train")
    options = ["flux", "--out", str(tmp_path / "flux.safetensors"), "--steps", "100000", "--minutes", "0.02",
               "--pool", "16", *FEW]
    train.teach(train.parse(options))
    last = [line for line in capsys.readouterr().out.splitlines() if "loss" in line][-1]
    assert int(last.split()[1]) < 1000


def test_the_pool_is_what_the_prompts_say(part):
    pool, world = part("playground.learning").Pool("flux", 40, 7, "cpu"), part("playground.worlds.shapes")
    rng, networks = random.Random(7), part("playground.networks")
    requests = [world.random_request(rng) for _ in range(40)]
    pictures = world.draw([world.complete(scene, rng) for _, scene in requests], rng)
    assert torch.equal(pool.tokens, networks.tokens("flux", [prompt for prompt, _ in requests]))
    assert (pool.pictures.float() / 127.5 - 1 - pictures).abs().max() < 1 / 127


# ---------------------------------------------------------------- the student
def test_a_student_learns_what_its_teacher_paints(part, untrained, tmp_path):
    distil, networks = part("playground.distil"), part("playground.networks")
    untrained("flux").save(tmp_path / "flux.safetensors", {})
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("flux", "student")]
    options = distil.parse(["flux", "--teacher", paths[0], "--out", paths[1], "--pairs", "8", "--teacher-steps", "3",
                            "--steps", "40", "--rate", "0.002", *FEW])
    teacher = part("playground.flow").Flow.load("flux", tmp_path / "flux.safetensors").eval().requires_grad_(False)
    student = distil.distil(options).eval()
    torch.manual_seed(options.seed)
    pairs = distil.Pairs(teacher, options)
    for steps in (1, 2, 4):
        errors = [(flow.sample(pairs.noise.float(), pairs.tokens, steps) - pairs.images.float()).abs().mean().item()
                  for flow in (teacher, student)]
        assert errors[1] < errors[0], (steps, errors)
    model, clip, vae = networks.load(tmp_path / "student.safetensors")
    text = clip.encode_from_tokens_scheduled(clip.tokenize("a red circle"))
    noise = torch.randn(1, *networks.latent_shape("flux"))
    latent = comfy.sample.sample(model, noise, 1, 1.0, "euler", "simple", text, text, torch.zeros_like(noise),
                                 disable_pbar=True, seed=0)
    assert vae.decode(latent).isfinite().all()


def test_runs_go_the_ways_that_the_sampler_goes(part, untrained):
    distil = part("playground.distil")
    flow = untrained("flux")
    ways = [tuple(flow.sigmas(steps)[:-1]) for steps in distil.PATHS]
    pairs = distil.Pairs(flow, distil.parse(["flux", "--pairs", "8", "--teacher-steps", "1"]))
    runs = distil.Runs(flow, pairs, 400)
    began, seen, firsts = runs.x.clone(), [[] for _ in range(400)], 0
    for _ in range(8):
        x, sigma, tokens, images = runs.batch()
        for slot, value in enumerate(sigma.tolist()):
            seen[slot].append(round(value, 4))
        first = sigma == 1
        firsts += first.float().mean().item() / 8
        began = torch.where(first[:, None, None, None], x, began)
        # where each step's velocity is the noise, a run that began with it lies at sigma times it
        assert torch.allclose(x, sigma[:, None, None, None] * began, atol=1e-5)
        rows = [pairs.tokens.tolist().index(row) for row in tokens.tolist()]
        assert all(any(torch.equal(pairs.images[other].float(), image) for other in range(8)
                       if torch.equal(pairs.tokens[other], pairs.tokens[row])) for row, image in zip(rows, images))
        runs.step(began)
    assert 0.42 < firsts < 0.62
    whole = {tuple(round(value, 4) for value in way) for way in ways}
    for values in seen:
        starts = [at for at, value in enumerate(values) if value == 1]
        for start, end in zip(starts, starts[1:]):
            assert tuple(values[start:end]) in whole


# ---------------------------------------------------------------- Muon
def test_muon_makes_steps_orthogonal(part):
    x = torch.randn(3, 96, 64)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    inner = u.mT @ part("playground.muon").orthogonal(x) @ v.mT
    strengths = inner.diagonal(dim1=1, dim2=2)
    assert 0.6 < strengths.min() and strengths.max() < 1.3
    assert (inner - strengths.diag_embed()).abs().max() < 1e-3


def test_muon_is_for_matrices_alone(part, untrained):
    flow = untrained("unet")
    names = {id(parameter): name for name, parameter in flow.named_parameters()}
    mine = {names[id(matrix)] for matrix in part("playground.muon").matrices(flow)}
    assert any(len(flow.get_parameter(name).shape) == 4 for name in mine)
    assert not any("embedding" in name for name in mine if name.startswith("encoder"))
    assert "model.out.2.weight" not in mine


# ---------------------------------------------------------------- all of them
def test_make_goes_without_graphs_where_they_fail(part, tmp_path, monkeypatch):
    make, commands = part("playground.make"), []

    def run(command, log):
        commands.append(command)
        return "--graph" not in command

    monkeypatch.setattr(make, "run", run)
    monkeypatch.setattr("sys.argv", ["make", "wan", "--folder", str(tmp_path), "--graph", "--train", "--steps 3"])
    with pytest.raises(SystemExit) as ended:
        make.main()
    assert not ended.value.code
    assert [(command[0].split(".")[1], "--graph" in command) for command in commands] == [
        ("train", True), ("train", False), ("distil", True), ("distil", False)]
    assert commands[0][commands[0].index("--steps") + 1] == "3"
