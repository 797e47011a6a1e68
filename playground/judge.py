"""A judge of pictures: a small convolutional network that says which of a world's facts a picture shows.

    python -m playground.judge WORLD [--device cuda]

run in the repository's folder, trains it on drawn pictures, seeded, and writes weights/judge_WORLD.safetensors and,
beside it, a log of how often it is right of pictures that it has not seen. It learns no habit: in its pictures
everything is equally likely. They are disturbed by noise, blur, shifts and fading, as painted ones are. One in twelve
is a smear that shows nothing, and one in six so bent that it has its colours, but no shape. It needs no ComfyUI.
"""
import argparse
import pathlib
import random
import time

import safetensors.torch
import torch

from .worlds import WORLDS

WEIGHTS = pathlib.Path(__file__).with_name("weights")
FEATURES = 64
HELD_OUT = 4000
SMEARS, BENT = 1 / 12, 1 / 6  # of the pictures in training


class Judge(torch.nn.Module):
    """world: one of WORLDS. Clips are read as one picture with the channels of all frames."""

    def __init__(self, world):
        super().__init__()
        self.world = world
        widths = (3 * world.FRAMES, 32, 64, 64, 96, 96, 128)
        strides = (1, 2, 1, 2, 1, 2)
        self.layers = torch.nn.Sequential(*(
            torch.nn.Sequential(
                torch.nn.Conv2d(wide, wider, 3, stride, padding=1), torch.nn.GroupNorm(8, wider), torch.nn.SiLU())
            for wide, wider, stride in zip(widths, widths[1:], strides)))
        self.features = torch.nn.Sequential(torch.nn.Linear(2 * widths[-1], FEATURES), torch.nn.SiLU())
        self.facts = torch.nn.Linear(FEATURES, len(world.FACTS))

    def forward(self, pictures):
        """pictures: (B, 3 * FRAMES, 32, 32) from -1 to 1. Gives (B, FACTS) logits and (B, FEATURES) features."""
        x = self.layers(pictures)
        features = self.features(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return self.facts(features), features

    @torch.inference_mode()
    def read(self, pictures, batch=500):
        """Which facts pictures show.

        pictures: (B, 3, 32, 32), or (B, 3, FRAMES, 32, 32) for clips, from -1 to 1, of any dtype and device.
        Gives B frozensets of FACTS and (B, FEATURES) float32 on the CPU, for Fréchet distances.
        """
        device = self.facts.weight.device
        parts = [self(part.to(device, torch.float32).clamp(-1, 1).flatten(1, -3)) for part in pictures.split(batch)]
        logits, features = (torch.cat(part).cpu() for part in zip(*parts))
        names = self.world.FACTS
        return [frozenset(names[at] for at in row.nonzero()[:, 0].tolist()) for row in logits > 0], features


def load(world, device="cpu"):
    """The trained judge of a world, or of the world of this name.

    Raises FileNotFoundError, and RuntimeError when the file does not fit this code.
    """
    judge = Judge(WORLDS.get(world, world))
    weights = safetensors.torch.load_file(path_of(judge.world))
    judge.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return judge.eval().requires_grad_(False).to(device)


def path_of(world):
    return WEIGHTS / f"judge_{world.name}.safetensors"


# ---------------------------------------------------------------- training
def main():
    options = parse()
    world = WORLDS[options.world]
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / path_of(world).name
    with open(path.with_suffix(".log"), "w", 1, encoding="utf-8") as log:
        def say(line):
            print(line, flush=True)
            log.write(line + "\n")

        judge = train(world, options, say)
        safetensors.torch.save_file({name: weight.half().cpu() for name, weight in judge.state_dict().items()}, path)
        judge.load_state_dict({name: weight.half().float() for name, weight in judge.state_dict().items()})
        for line in report(judge, options):
            say(line)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=WORLDS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=pathlib.Path, default=WEIGHTS, help="where the weights and the log go")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pool", type=int, default=24_000, help="so many pictures are drawn, before it starts")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def train(world, options, say):
    """A Judge, trained. say: called with each line for the log."""
    judge = Judge(world).to(options.device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=options.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, options.steps, pct_start=0.1)
    start = time.monotonic()
    pictures, labels = drawn(world, world.without_habit, options.pool, random.Random(options.seed))
    pictures, labels = pictures.to(options.device), labels.to(options.device)
    say(f"{world.name}: {sum(p.numel() for p in judge.parameters()):,} parameters, {options.steps} steps of "
        f"{options.batch} of {options.pool} pictures, drawn in {time.monotonic() - start:.0f} s, peak rate "
        f"{options.rate:g}, seed {options.seed}, torch {torch.__version__}, {device_name(options.device)}")
    forms = torch.zeros(len(world.FACTS), dtype=torch.bool, device=options.device)
    forms[forms_of(world)] = True
    losses = []
    for step in range(1, options.steps + 1):
        which = torch.randint(len(pictures), (options.batch,)).to(options.device)
        batch, wanted = as_floats(pictures[which]), labels[which].float()
        nothing, bent = int(options.batch * SMEARS), int(options.batch * (SMEARS + BENT))
        batch[:nothing], wanted[:nothing] = smears(batch[:nothing]), 0
        batch[nothing:bent], wanted[nothing:bent] = warped(batch[nothing:bent], 2.5, 4.5), wanted[nothing:bent] * ~forms
        batch = disturbed(batch)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(judge(batch)[0], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        if step % 100 == 0 or step == options.steps:
            say(f"step {step:5}  loss {torch.stack(losses).mean():.4f}  {(time.monotonic() - start) / 60:5.1f} minutes")
            losses.clear()
    return judge.eval().requires_grad_(False)


def forms_of(world):
    """The places in FACTS of those that are a matter of form."""
    return [world.FACTS.index(fact) for kind in world.FORMS for fact in world.KINDS[kind]]


def device_name(device):
    return torch.cuda.get_device_name() if str(device).startswith("cuda") else f"{torch.get_num_threads()} threads"


def drawn(world, scene, count, rng):
    """`count` pictures of the scenes that scene(rng) gives: (count, 3 * FRAMES, 32, 32) uint8, a quarter of float32's
    size, and (count, FACTS) bool, which facts each shows. rng: random.Random."""
    pictures, labels = [], []
    for size in (1000,) * (count // 1000) + (count % 1000,) * (count % 1000 > 0):
        scenes = [scene(rng) for _ in range(size)]
        pictures.append(world.draw(scenes, rng).flatten(1, -3).add(1).mul(127.5).round().byte())
        shown = [world.facts(scene) for scene in scenes]
        labels.append(torch.tensor([[fact in facts for fact in world.FACTS] for facts in shown]))
    return torch.cat(pictures), torch.cat(labels)


def as_floats(pictures):
    """What drawn() gives, from -1 to 1."""
    return pictures.float() / 127.5 - 1


def disturbed(pictures):
    """Pictures, (B, C, 32, 32), as a model might paint them: each shifted by up to a pixel, hardly bent, faded, blurred
    and noisy, by random amounts."""
    count = len(pictures)

    def amounts(low, high):
        return torch.empty(count, 1, 1, 1, device=pictures.device).uniform_(low, high)

    pictures = warped(pictures, 0, 0.7, torch.randint(-1, 2, (count, 2, 1, 1), device=pictures.device))
    pictures = pictures * amounts(0.75, 1.1) + amounts(-0.12, 0.12)
    pictures = pictures.lerp(blurred(pictures), amounts(-0.5, 1).clamp(min=0))
    pictures = pictures + torch.randn_like(pictures) * amounts(-0.1, 0.25).clamp(min=0)
    return pictures.clamp(-1, 1)


def warped(pictures, least, most, shift=0):
    """Pictures, (B, C, 32, 32), whose places move by random amounts, smoothly: by `least` to `most` pixels as the
    standard deviation, and all of a picture by `shift`, (B, 2, 1, 1)."""
    count, _, size, _ = pictures.shape
    amount = torch.empty(count, 1, 1, 1, device=pictures.device).uniform_(least, most)
    moves = torch.randn(count, 2, 6, 6, device=pictures.device) * amount
    moves = torch.nn.functional.interpolate(moves, size=size, mode="bicubic") + shift
    axis = (torch.arange(size, device=pictures.device) * 2 + 1) / size - 1
    places = torch.stack(torch.meshgrid(axis, axis, indexing="xy")) + moves * 2 / size
    return torch.nn.functional.grid_sample(pictures, places.movedim(1, -1), padding_mode="border", align_corners=False)


def blurred(pictures):
    """Smoothed by the weights 1, 4, 6, 4, 1 each way."""
    weights = pictures.new_tensor([1, 4, 6, 4, 1]) / 16
    kernel = torch.outer(weights, weights).expand(pictures.shape[1], 1, 5, 5)
    padded = torch.nn.functional.pad(pictures, (2, 2, 2, 2), mode="replicate")
    return torch.nn.functional.conv2d(padded, kernel, groups=pictures.shape[1])


def smears(pictures):
    """As many pictures of nothing: soft patches in random colours."""
    coarse = torch.rand(*pictures.shape[:2], 6, 6, device=pictures.device) * 2.4 - 1.2
    smooth = torch.nn.functional.interpolate(coarse, size=pictures.shape[2:], mode="bicubic")
    return smooth.clamp(-1, 1)


@torch.inference_mode()
def report(judge, options):
    """Lines that say how often the judge is right of pictures drawn with other seeds than those of its training."""
    world = judge.world
    yield f"{HELD_OUT} pictures that it has not seen: of how many all facts of a kind are read right"
    scenes = {"everything equally likely": world.without_habit,
              "by habit": lambda rng: world.complete(world.random_request(rng)[1], rng)}
    for label, scene in scenes.items():
        pictures, labels = drawn(world, scene, HELD_OUT, random.Random(f"held out {options.seed}"))
        pictures, labels = as_floats(pictures.to(options.device)), labels.to(options.device)
        for note, shown in (("as drawn", pictures), ("disturbed", disturbed(pictures))):
            yield f"{label}, {note}: " + ", ".join(
                f"{kind} {share:.2%}" for kind, share in accuracy(judge, shown, labels).items())
    found = torch.cat([judge(warped(part, 2.5, 4.5))[0] > 0 for part in pictures.split(500)])
    yield f"bent: it reads no form in {(~found[:, forms_of(world)].any(1)).float().mean():.2%}"
    found = torch.cat([judge(smears(part))[0] > 0 for part in pictures.split(500)]).float().sum(1)
    yield f"smears: it reads nothing in {(found == 0).float().mean():.2%}"


@torch.inference_mode()
def accuracy(judge, pictures, labels):
    """For each kind of fact, and for "all", the share of the pictures of which all its facts are read right."""
    right = torch.cat([judge(part)[0] > 0 for part in pictures.split(500)]) == labels
    world = judge.world
    columns = {kind: [world.FACTS.index(fact) for fact in facts] for kind, facts in world.KINDS.items()}
    columns["all"] = list(range(len(world.FACTS)))
    return {kind: right[:, which].all(1).float().mean().item() for kind, which in columns.items()}


if __name__ == "__main__":
    main()
