"""Distil a network of the playground: a student that paints in 1, 2 or 4 steps what its teacher does in many, guided.

    python -m playground.distil NAME [--device cuda]

run in the repository's folder, after playground.train. The teacher paints random prompts with CFG; from each noise the
student learns to paint the same picture at once, and again from where its own steps, of 1, 2 or 4, lead it. So its
guidance is its own: it is sampled at cfg 1. Seeded; writes weights/NAME_student.safetensors beside itself.
"""
import pathlib
import random
import time

import torch

from .train import BATCH, described, parser, prepare

# As in playground.train, in forty minutes, or an hour and a half.
STEPS = {"flux": 1300, "sd3": 1630, "unet": 1065, "emoji": 1300, "wan": 2000}
PAIRS, TEACHER_STEPS = {"wan": 8192}, {"wan": 8}
PATHS = (1, 2, 4)  # steps that the student learns to paint in
SHARES = (0.5, 0.25, 0.25)  # of the runs begun with each; half of all steps are then first ones
HUBER = 0.1  # of the range from -1 to 1: from there on an error counts in a line, which keeps edges sharp


def main():
    options = parse()
    prepare(options, " student")
    distil(options)


def distil(options):
    """Train a student as options of parse() say, and write it. Gives the Flow."""
    from . import learning
    from .flow import Flow

    torch.manual_seed(options.seed)
    flow = Flow.load(options.name, options.teacher or options.name).to(options.device)
    if options.compile:
        flow.compile()
    start = time.monotonic()
    pairs = Pairs(flow.requires_grad_(False).eval(), options)
    print(f"{options.pairs} pairs by the teacher in {options.teacher_steps} steps at cfg {options.cfg:g}: "
          f"{(time.monotonic() - start) / 60:.2f} minutes; {options.steps} steps of {options.batch}, "
          f"{described(options)}", flush=True)
    runs = Runs(flow, pairs, options.batch)

    def loss_of():
        x, sigma, tokens, images = runs.batch()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=options.bfloat16):
            velocity = flow(x, sigma, tokens).float()
        runs.step(velocity.detach())
        painted = x - sigma.reshape(-1, *[1] * (x.ndim - 1)) * velocity
        return torch.nn.functional.huber_loss(painted, images, delta=HUBER) / HUBER

    def look(average, step):
        average.save(options.out, {"seed": str(options.seed), "steps": str(step), "teacher_cfg": str(options.cfg)})
        for steps in PATHS:
            print(learning.following(average, steps, count=options.count), flush=True)

    average = learning.fit(flow.requires_grad_(True).train(), loss_of, options, look)
    for steps in PATHS:
        print(learning.following(average, steps, 3, options.count), flush=True)
    return average


def parse(arguments=None):
    options = parser(__doc__, "{}_student.safetensors", rate=6e-3, check=1000)
    options.add_argument("--teacher", type=pathlib.Path, help="a file; default: weights/NAME.safetensors")
    options.add_argument("--pairs", type=int, help="of noise and the picture that the teacher makes of it; default: "
                         "8192 clips, else 32768 pictures")
    options.add_argument("--cfg", type=float, default=2.0, help="the teacher's")
    options.add_argument("--teacher-steps", type=int, help="default: 8 for clips, else 12")
    options = options.parse_args(arguments)
    options.steps = options.steps or STEPS[options.name]
    options.batch = options.batch or BATCH.get(options.name, 256)
    options.pairs = options.pairs or PAIRS.get(options.name, 32768)
    options.teacher_steps = options.teacher_steps or TEACHER_STEPS.get(options.name, 12)
    return options


class Pairs:
    """Noise, and what a Flow with guidance makes of it for random prompts; the latents in float16.

    tokens: (N, L) long. noise, images: (N, *latent_shape).
    """

    def __init__(self, teacher, options):
        from . import networks

        world, rng, name = networks.world_of(teacher.name), random.Random(options.seed + 1), teacher.name
        prompts = [world.random_request(rng)[0] for _ in range(options.pairs)]
        self.tokens = networks.tokens(name, prompts).to(options.device)
        self.noise, self.images = [], []
        size = 1024 if options.device.type == "cuda" else options.batch  # a CPU's caches are full long before a GPU is
        for tokens in self.tokens.split(size):
            noise = torch.randn(len(tokens), *networks.latent_shape(name), device=options.device).half()
            with torch.autocast(options.device.type, torch.bfloat16, enabled=options.bfloat16):
                images = teacher.sample(noise.float(), tokens, options.teacher_steps, options.cfg, batch=size)
            self.noise.append(noise)
            self.images.append(images.half())
        self.noise, self.images = torch.cat(self.noise), torch.cat(self.images)


class Runs:
    """A student's samplings, many at once and each at its own step; one that has ended gives way to one that begins.

    So each batch holds states that the student's own latest steps lead to, at no call beyond the one that learns.
    """

    def __init__(self, flow, pairs, size):
        device = pairs.noise.device
        self.pairs = pairs
        grid = [flow.sigmas(steps) for steps in PATHS]
        self.grid = torch.tensor([sigmas + [0.0] * (max(PATHS) + 1 - len(sigmas)) for sigmas in grid], device=device)
        self.shares = torch.tensor(SHARES, device=device).cumsum(0)
        self.path = self._paths(size)
        self.place = torch.zeros(size, dtype=torch.long, device=device)
        self.row = self._rows(size)
        self.x = pairs.noise[self.row].float()

    def batch(self):
        """(B, *latent_shape) states, (B,) sigmas, (B, L) tokens, (B, *latent_shape) what the teacher painted."""
        return (self.x.clone(), self.grid[self.path, self.place], self.pairs.tokens[self.row],
                self.pairs.images[self.row].float())

    def step(self, velocity):
        """Let all take an Euler step by (B, *latent_shape) velocities."""
        sigma, after = self.grid[self.path, self.place], self.grid[self.path, self.place + 1]
        ended, size = after == 0, len(after)
        self.row.copy_(torch.where(ended, self._rows(size), self.row))
        self.path.copy_(torch.where(ended, self._paths(size), self.path))
        self.place.copy_(torch.where(ended, 0, self.place + 1))
        each = (-1, *[1] * (velocity.ndim - 1))
        moved = self.x + (after - sigma).reshape(each) * velocity
        self.x.copy_(torch.where(ended.reshape(each), self.pairs.noise[self.row].float(), moved))

    def _rows(self, size):
        return torch.randint(len(self.pairs.noise), (size,), device=self.pairs.noise.device)

    def _paths(self, size):
        return torch.bucketize(torch.rand(size, device=self.shares.device), self.shares).clamp(max=len(PATHS) - 1)


if __name__ == "__main__":
    main()
