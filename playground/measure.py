"""Measure what NAG does to what a prompt leaves open, on the playground's model.

    python -m playground.measure --comfyui PATH

run in the repository's folder. It paints the same prompts and seeds without guidance, with CFG and with NAG, in 4
steps, reads the pictures back by their pixels and prints two tables: how often the unwanted shows (what the negative
names) and how often the wanted does (everything that the prompt says). --sheet writes the pictures themselves.
"""
import argparse
import asyncio
import dataclasses
import pathlib

import torch
from host.inside import COMFYUI, load_pack, start_comfyui

from .worlds import pixels, shapes

STEPS, CFG = 4, 3.0
STRENGTH = ("nag_scale", "nag_tau", "nag_alpha", "strength")
CASES = shapes.CASES[:8]


def main():
    options = parse()
    start_comfyui(options.comfyui)
    from . import networks

    torch.set_num_threads(options.threads)
    model, clip, vae = networks.load(options.weights)
    nodes = pack_nodes()

    strength = {name: getattr(options, name) for name in STRENGTH}
    methods = {
        "no guidance": (model, 1.0),
        f"CFG {CFG:g}": (model, CFG),
        "NAG shared": (with_nag(nodes, model, {**strength, "image_stream": "shared"}), 1.0),
        "NAG separate": (with_nag(nodes, model, {**strength, "image_stream": "separate"}), 1.0),
    }
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    results = {
        name: [judge(case, guided, cfg, clip, vae, seeds) for case in CASES]
        for name, (guided, cfg) in methods.items()
    }
    print(table(results, len(seeds)))
    if options.sheet:
        write_sheet(results, options.sheet)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=pathlib.Path, default=COMFYUI, help="a ComfyUI checkout")
    parser.add_argument("--weights", type=pathlib.Path,
                        default=pathlib.Path(__file__).with_name("playground.safetensors"))
    parser.add_argument("--seeds", type=int, default=40, help=f"for each of the {len(CASES)} prompts")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--nag_scale", default="auto")
    parser.add_argument("--nag_tau", default="auto")
    parser.add_argument("--nag_alpha", default="auto")
    parser.add_argument("--strength", default="1")
    parser.add_argument("--sheet", type=pathlib.Path, help="a PNG file to write")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def pack_nodes(pack=None):
    """This pack's node classes by node_id. pack: what load_pack() gave, if it is loaded already."""
    async def listed():
        return await (await (pack or load_pack()).comfy_entrypoint()).get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(listed())}


def with_nag(nodes, model, settings):
    """The model as the pack's own nodes patch it; itself where `settings` is None."""
    if settings is None:
        return model
    strength = {name: value for name, value in settings.items() if name in STRENGTH}
    others = {name: value for name, value in settings.items() if name not in STRENGTH}
    options = nodes["NAGOptions"].execute(**{"start_percent": 0.0, "end_percent": 1.0, **others}).result[0]
    return nodes["NAGModel"].execute(model=model, options=options, **strength).result[0]


# ---------------------------------------------------------------- painting
def encode(clip, prompt):
    """What CLIPTextEncode gives."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def paint(model, vae, positive, negative, seeds, cfg=1.0):
    """What KSampler and VAEDecode give for each seed, with euler, simple and STEPS steps, shrunk to the size that the
    detector reads: (seeds, 3, 32, 32) from -1 to 1."""
    import comfy.sample

    from . import networks

    latent = networks.to_latent(torch.zeros(1, 3, shapes.SIZE, shapes.SIZE))
    noise = torch.cat([comfy.sample.prepare_noise(latent, seed) for seed in seeds])
    latents = comfy.sample.sample(model, noise, STEPS, cfg, "euler", "simple", positive, negative,
                                  torch.zeros_like(noise), disable_pbar=True, seed=seeds[0])
    return networks.to_picture(vae.encode(vae.decode(latents)))


@dataclasses.dataclass(frozen=True)
class Judged:
    """The pictures of one case, (seeds, 3, 32, 32) from -1 to 1, and for each what the detector says of it."""

    pictures: torch.Tensor
    unwanted: list[bool]
    wanted: list[bool]
    odd: list[float]


def judge(case, model, cfg, clip, vae, seeds):
    """Paint a case for all seeds, decode, and read the pictures back."""
    positive, negative = encode(clip, shapes.describe(case.scene)), encode(clip, case.negative)
    pictures = paint(model, vae, positive, negative, seeds, cfg)
    seen = [pixels.see(picture) for picture in pictures]
    return Judged(
        pictures=pictures,
        unwanted=[pixels.hints(s, case.negative) for s in seen],
        wanted=[pixels.shows(s, case.scene) for s in seen],
        odd=[s.odd for s in seen],
    )


# ---------------------------------------------------------------- reporting
def table(results, seeds):
    """Two Markdown tables, over all cases and case by case. results: lists of Judged, one a case, by method."""
    lines = [f"{len(CASES)} prompts x {seeds} seeds = {len(CASES) * seeds} pictures each, {STEPS} steps, cfg 1 but "
             "for CFG.", "", "| | unwanted shows | wanted shows | pixels off colour |", "|---|---|---|---|"]
    for name, cases in results.items():
        share = [_mean([value for judged in cases for value in getattr(judged, what)])
                 for what in ("unwanted", "wanted", "odd")]
        lines.append(f"| {name} | {share[0]:.1%} | {share[1]:.1%} | {share[2]:.1%} |")
    lines += ["", "Unwanted / wanted, prompt by prompt:", "",
              f"| prompt | negative | {' | '.join(results)} |", "|---" * (2 + len(results)) + "|"]
    for number, case in enumerate(CASES):
        pairs = [f"{_mean(cases[number].unwanted):.0%} / {_mean(cases[number].wanted):.0%}"
                 for cases in results.values()]
        lines.append(f"| {shapes.describe(case.scene)} | {case.negative} | {' | '.join(pairs)} |")
    return "\n".join(lines)


def _mean(values):
    return sum(values) / len(values)


def write_sheet(results, path, columns=8, scale=4):
    """Write a PNG: a row for each case and method, in the order of the tables, with the first pictures of each."""
    import PIL.Image

    rows = [cases[number].pictures[:columns] for number in range(len(CASES)) for cases in results.values()]
    padded = torch.nn.functional.pad(torch.stack(rows), (1, 1, 1, 1), value=1.0)
    sheet = padded.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    image = PIL.Image.fromarray(((sheet.clamp(-1, 1) + 1) * 127.5).byte().numpy())
    image.resize((image.width * scale, image.height * scale), PIL.Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
