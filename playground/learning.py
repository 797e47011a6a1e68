"""What teachers and students learn from and how: pools of drawn pictures, one loop, and a look at what they paint.

Import it after start_comfyui().
"""
import math
import random
import time

import torch

from . import networks
from .muon import Muon, matrices
from .worlds import pixels

CHUNK = 1024  # scenes drawn at once


class Pool:
    """Random prompts, each with a picture that it describes, on the device: numbers of a batch never wait for the host.

    tokens: (N, L) long. pictures: (N, 3, [FRAMES,] 32, 32) uint8.
    """

    def __init__(self, name, size, seed, device):
        world, rng = networks.world_of(name), random.Random(seed)
        prompts, pictures = [], []
        for start in range(0, size, CHUNK):
            requests = [world.random_request(rng) for _ in range(min(CHUNK, size - start))]
            prompts += [prompt for prompt, _ in requests]
            drawn = world.draw([world.complete(scene, rng) for _, scene in requests], rng)
            pictures.append(drawn.add(1).mul(127.5).round().clamp(0, 255).byte())
        self.tokens, self.pictures = networks.tokens(name, prompts).to(device), torch.cat(pictures).to(device)

    def batch(self, size):
        """(size, *latent_shape) latents and (size, L) tokens, drawn with torch's generator of the device."""
        rows = torch.randint(len(self.tokens), (size,), device=self.tokens.device)
        return networks.to_latent(self.pictures[rows].float().div(127.5).sub(1)), self.tokens[rows]


# ---------------------------------------------------------------- the loop
def fit(flow, loss_of, options, look):
    """Train a Flow in place. Gives the moving average of its weights, another Flow.

    loss_of: a function of nothing that gives a batch's loss, a scalar. It may not wait for the device.
    options: steps; minutes, after which it ends though there are steps left, or None; rate, Muon's peak learning rate;
    check, how many steps lie between calls of look(average, step); graph, whether a step becomes one CUDA graph.
    """
    average, device = flow.average(), next(flow.parameters()).device
    weights, averaged = list(flow.parameters()), list(average.parameters())
    mine = matrices(flow)
    others = [weight for weight in weights if not any(weight is matrix for matrix in mine)]
    # the rates are tensors, so that a graph reads them anew at each step
    zero = torch.zeros((), device=device)
    optimizers = {
        Muon(mine, lr=zero.clone()): options.rate,
        torch.optim.AdamW(others, lr=zero.clone(), betas=(0.9, 0.98), weight_decay=0.01, fused=True,
                          capturable=options.graph): options.rate * OTHERS,
    }
    summed = torch.zeros((), device=device)

    def learn():
        for optimizer in optimizers:
            optimizer.zero_grad()
        with device:  # models make tensors on the host, for which a graph can't wait
            loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        summed.add_(loss.detach())

    if options.graph:  # graphs are captured on a stream of their own, and what they are to repeat runs there before
        torch.cuda.synchronize()
        torch.cuda.set_stream(torch.cuda.Stream())
    start, since, done, step, advance = time.monotonic(), 0, 0.0, 0, learn
    while done < 1:
        step += 1
        if options.graph and step == WARMUP:
            advance = captured(learn)
        done = step / options.steps
        if options.minutes:
            done = max(done, (time.monotonic() - start) / 60 / options.minutes)
        for optimizer, rate in optimizers.items():
            optimizer.param_groups[0]["lr"].fill_(rate * schedule(step, min(done, 1)))
        advance()
        keep = min(0.998, step / (step + 10))  # forgets the first steps fast
        with torch.no_grad():
            torch._foreach_lerp_(averaged, weights, 1 - keep)
        if step % 100 == 0 or done >= 1:
            loss, since = summed.item() / (step - since), step  # waits for the device, so that the clock is right
            summed.zero_()
            print(f"step {step:5}  loss {loss:.4f}  {(time.monotonic() - start) / 60:5.2f} minutes", flush=True)
        if step % options.check == 0 or done >= 1:
            look(average, step)
    return average


OTHERS = 0.075  # AdamW's rate, for vectors and embeddings, over Muon's
WARMUP = 11  # steps before the graph is captured, in which libraries choose their kernels


def captured(function):
    """A CUDA graph's replay of a function; what it draws at random is new each time."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        function()
    return graph.replay


def schedule(step, done, warmup=100):
    """Share of the peak learning rate: up in a line, down in a half cosine. done: the share of all steps, or of the
    time."""
    return min(step / warmup, 0.5 + 0.5 * math.cos(math.pi * done))


# ---------------------------------------------------------------- looking
def reader(name):
    """What reads the facts of a network's pictures, (B, 3, [FRAMES,] 32, 32) from -1 to 1, as a list of sets: the judge
    where it is trained, else, for shapes, the detector of pixels. Neither: None."""
    world = networks.world_of(name)
    try:
        from . import judge

        judges = judge.load(world.name)
        return lambda pictures: judges.read(pictures)[0]
    except (ImportError, FileNotFoundError):
        return pixels.read if world.name == "shapes" else None


def following(flow, steps, cfg=1.0, count=256):
    """A line that says how many of `count` random prompts a Flow follows: the same prompts and noise each time."""
    world, rng = networks.world_of(flow.name), random.Random(1000)
    requests = [world.random_request(rng) for _ in range(count)]
    noise = torch.randn(count, *networks.latent_shape(flow.name), generator=torch.Generator().manual_seed(1000))
    tokens, device = networks.tokens(flow.name, [prompt for prompt, _ in requests]), next(flow.parameters()).device
    pictures = networks.to_picture(flow.sample(noise.to(device), tokens.to(device), steps, cfg)).cpu().clamp(-1, 1)
    read, line = reader(flow.name), f"{steps:2} steps, cfg {cfg:g}:"
    if read:
        followed = sum(world.shows(shown, scene) for shown, (_, scene) in zip(read(pictures), requests)) / count
        line += f" follows {followed:.1%} of {count} prompts"
    strange = world.off_palette(pictures)
    return line if strange is None else f"{line}, {strange.mean():.1%} of pixels off colour"
