"""Train a network of the playground, from nothing, on drawn pictures.

    python -m playground.train NAME [--device cuda]

run in the repository's folder. Seeded; it prints the loss and, from time to time, how many prompts the network follows,
and writes weights/NAME.safetensors beside itself. What it trains is ComfyUI's own model, in float32.
"""
import argparse
import pathlib

import torch
from host.inside import COMFYUI, start_comfyui

# What the weights were made with. Two CPU cores take half an hour each, or an hour and a half for clips.
STEPS = {"flux": 1700, "sd3": 2300, "unet": 1335, "emoji": 1700, "wan": 4500}
NAMES, BATCH = tuple(STEPS), {"wan": 64}


def main():
    options = parse()
    prepare(options)
    teach(options)


def teach(options):
    """Train a network as options of parse() say, and write it. Gives the Flow."""
    from . import learning, networks
    from .flow import Flow

    torch.manual_seed(options.seed)
    flow = Flow.untrained(options.name).to(options.device).requires_grad_(True).train()
    pool = learning.Pool(options.name, options.pool, options.seed, options.device)
    print(f"{sum(p.numel() for p in flow.parameters()):,} parameters, {options.steps} steps of {options.batch} of "
          f"{options.pool} pictures, {described(options)}", flush=True)
    if options.compile:
        flow.compile()
    # what many frames show takes more noise to hide, as it does in large pictures (arXiv 2403.03206, section 5.3.2)
    shift = networks.SHIFT * networks.world_of(options.name).FRAMES ** 0.5

    def loss_of():
        with torch.autocast(options.device.type, torch.bfloat16, enabled=options.bfloat16):
            return flow_loss(flow, *pool.batch(options.batch), shift)

    def look(average, step):
        average.save(options.out, {"seed": str(options.seed), "steps": str(step)})
        print(learning.following(average, 20, count=options.count), flush=True)

    average = learning.fit(flow, loss_of, options, look)
    for steps, cfg in ((4, 1), (4, 2), (20, 2), (20, 3)):
        print(learning.following(average, steps, cfg, options.count), flush=True)
    return average


def flow_loss(flow, images, tokens, shift):
    """Mean squared error of the velocities that a Flow sees in noisy images.

    images: (B, *latent_shape) latents. tokens: (B, L), their prompts'. shift: of the times, towards the noisy ones.
    """
    from .flow import shifted

    spread = torch.arange(len(images), device=images.device) + torch.rand(len(images), device=images.device)
    sigma = shifted(spread / len(images), shift)  # evenly spread, for a steadier loss
    noise = torch.randn_like(images)
    noisy = torch.lerp(images, noise, sigma.reshape(-1, *[1] * (images.ndim - 1)))
    return (flow(noisy, sigma, tokens).float() - (noise - images)).square().mean()


def parser(about, out, rate, check):
    """What train and distil take both. out: the file's name, of the network's."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--comfyui", type=pathlib.Path, default=COMFYUI, help="a ComfyUI checkout")
    parser.add_argument("--out", type=pathlib.Path, help=f"default: weights/{out.format('NAME')}")
    parser.add_argument("--steps", type=int, help="default: as the weights were made")
    parser.add_argument("--minutes", type=float, help="end after so many, with what steps were done; does not repeat")
    parser.add_argument("--batch", type=int, help="default: 64 for clips, else 256")
    parser.add_argument("--rate", type=float, default=rate, help="peak learning rate of Muon")
    parser.add_argument("--check", type=int, default=check, help="save and look at pictures every so many steps")
    parser.add_argument("--count", type=int, default=256, help="look at so many pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="use torch.compile: needs a C++ compiler")
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16: faster on CPUs that have it")
    parser.add_argument("--graph", action="store_true", help="CUDA only: each step a graph, which the host only starts")
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def parse(arguments=None):
    options = parser(__doc__, "{}.safetensors", rate=0.02, check=1000)
    options.add_argument("--pool", type=int, default=65536, help="pictures drawn before, to learn from")
    options = options.parse_args(arguments)
    options.steps = options.steps or STEPS[options.name]
    options.batch = options.batch or BATCH.get(options.name, 256)
    return options


def prepare(options, suffix=""):
    """Start ComfyUI and set up PyTorch, as options of parser() say. suffix: of the file's name."""
    start_comfyui(options.comfyui)
    from . import networks

    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    options.out = options.out or networks.path_of(options.name + suffix)


def described(options):
    """What the log says of how a run was made."""
    device = torch.cuda.get_device_name() if options.device.type == "cuda" else f"CPU, {options.threads} threads"
    how = [f"peak rate {options.rate:g}", f"seed {options.seed}", f"torch {torch.__version__}", device]
    return ", ".join(how + [name for name in ("compile", "bfloat16", "graph") if getattr(options, name)])


if __name__ == "__main__":
    main()
