"""Train the playground's model, from nothing, on pictures drawn on the way.

    python -m playground.train --comfyui PATH

run in the repository's folder. Seeded; it prints the loss and, from time to time, how many prompts the model follows,
and writes playground.safetensors beside itself. The model that it trains is ComfyUI's own, in float32.
"""
import argparse
import copy
import math
import pathlib
import random
import time

import torch
from host.inside import COMFYUI, start_comfyui

from .worlds import shapes


def main():
    options = parse()
    start_comfyui(options.comfyui)
    from . import measure, network

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    model = torch.nn.ModuleDict({
        "flux": network.build_model().diffusion_model,
        "text": network.text_model(network.build_clip()),
    }).requires_grad_(True).train()
    initialise(model)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {options.steps} steps of {options.batch} "
          f"pictures, peak rate {options.rate:g}, seed {options.seed}, torch {torch.__version__}"
          f"{', compiled' * options.compile}{', bfloat16' * options.bfloat16}", flush=True)

    loss_of = torch.compile(flow_loss) if options.compile else flow_loss
    start, losses = time.monotonic(), []
    for step in range(1, options.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * schedule(step, options.steps)
        noisy, times, velocity, *words = draw_batch(
            options.batch, rng, network.Words(), network.TEXT["max_words"] + 2, network.SHIFT)
        batch = network.to_latent(noisy), times, network.to_latent(velocity), *words
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            loss = loss_of(model["flux"], model["text"], *batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(average, model, step)
        losses.append(loss.item())
        if step % 100 == 0:
            print(f"step {step:5}  loss {sum(losses) / len(losses):.4f}  "
                  f"{(time.monotonic() - start) / 60:5.1f} minutes", flush=True)
            losses.clear()
        if step % options.check == 0 or step == options.steps:
            network.save(average["flux"], average["text"], options.out,
                         {"seed": str(options.seed), "steps": str(step)})
            with torch.random.fork_rng():  # so that looking does not change what is trained
                print(measure.prompt_following(*network.load(options.out)), flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=pathlib.Path, default=COMFYUI, help="a ComfyUI checkout")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_name("playground.safetensors"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--check", type=int, default=500, help="save and look at the pictures every so many steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="use torch.compile: needs a C++ compiler, much faster")
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16: faster on CPUs that have it")
    parser.add_argument("--threads", type=int, default=1,
                        help="one is faster than two where other programs share the cores")
    return parser.parse_args()


def initialise(model):
    """Fill the weights, which ComfyUI leaves unset: Xavier for matrices, each block of the Flux doing nothing yet."""
    for name, parameter in model.named_parameters():
        if name.endswith(".scale") or ("norm" in name and name.endswith("weight")):
            torch.nn.init.ones_(parameter)
        elif parameter.ndim < 2:
            torch.nn.init.zeros_(parameter)
        elif "embedding" in name:
            torch.nn.init.normal_(parameter, std=0.5)
        elif "mod" in name.split(".")[-3] or "modulation" in name or "final_layer" in name:
            torch.nn.init.zeros_(parameter)
        else:
            torch.nn.init.xavier_uniform_(parameter)


def schedule(step, steps, warmup=100):
    """Share of the peak learning rate: up in a line, down in a half cosine."""
    return min(step / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def draw_batch(size, rng, words, length, shift):
    """Random prompts, and pictures that they describe on their way from noise.

    rng: random.Random. words: the tokenizer. length: tokens, at least as many as the longest prompt has. shift: of the
    times, towards the noisy ones; 1 is none.
    Gives (size, 3, 32, 32) noisy pictures, (size,) times from 0, the picture, to 1, all noise, (size, 3, 32, 32)
    velocities, (size, length) token numbers and (size, length) bool, True where there is a word.
    """
    requests = [shapes.random_request(rng) for _ in range(size)]
    pictures = shapes.draw([shapes.complete(scene, rng) for _, scene in requests], rng)
    noise = torch.randn_like(pictures)
    times = (torch.arange(size) + torch.rand(size)) / size  # evenly spread, for a steadier loss
    times = shift * times / (1 + (shift - 1) * times)
    noisy = torch.lerp(pictures, noise, times[:, None, None, None])

    tokens = torch.zeros(size, length, dtype=torch.long)
    is_word = torch.zeros(size, length, dtype=torch.bool)
    for row, (prompt, _) in enumerate(requests):
        numbers = words(prompt)["input_ids"]
        tokens[row, : len(numbers)] = torch.tensor(numbers)
        is_word[row, : len(numbers)] = True
    return noisy, times, noise - pictures, tokens, is_word


def flow_loss(flux, text, noisy, times, velocity, tokens, is_word):
    """Mean squared error of the velocity that the model sees in draw_batch()'s noisy pictures, as latents."""
    with OutOfPlace():
        context, _, pooled, _ = text(tokens, attention_mask=is_word, num_tokens=is_word.sum(1))
        image_tokens = noisy[0, 0].numel() // flux.patch_size**2
        mask = torch.nn.functional.pad(is_word[:, None, None], (0, image_tokens), value=True)
        return (flux(noisy, times, context, pooled, attention_mask=mask) - velocity).square().mean()


class OutOfPlace(torch.overrides.TorchFunctionMode):
    """Turns `x += y` into `x = x + y`: ComfyUI's blocks add in place to what the gradients still need.

    torch.autograd.graph.allow_mutation_on_saved_tensors would do, but torch.compile cannot see through it.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return (torch.Tensor.add if func is torch.Tensor.add_ else func)(*args, **(kwargs or {}))


@torch.no_grad()
def update_average(average, model, step):
    """Move the moving average of the weights along; it forgets the first steps fast."""
    keep = min(0.998, step / (step + 10))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)


if __name__ == "__main__":
    main()
