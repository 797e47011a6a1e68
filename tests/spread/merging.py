"""Guided attention over a sequence that is spread over processes, put together of what the pack merges and guides by.

Every process has a share of each of the three parts, negative, positive and image, as sequence parallel deals them out.
Ulysses exchanges tokens for heads, within a group; in a ring keys and values go round. Where both are in use, the
groups of the one lie across those of the other.
"""
import functools
import sys
from pathlib import Path

import torch
import torch.distributed as dist

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS), str(TESTS.parent)]

from patches.arithmetic.equation import extrapolated, guide  # noqa: E402
from patches.arithmetic.merge import guide_joint, image_of_each, merge  # noqa: E402
from patches.arithmetic.segments import Segments  # noqa: E402

from oracle import equation as exact  # noqa: E402

CLOSE = 1e-5
ROWS, HEADS, DIM = 2, 4, 8
COUNTS = {"negative": 3, "positive": 6, "image": 13}  # tokens; of four processes one has none of the negative
N_IMAGE = COUNTS["image"]
CAPPED = ("nag", "orthogonal")  # by norms
NUMBERS = SCALE, TAU, ALPHA = 5.0, 2.5, 0.25


class Spread:
    """The processes, `ulysses` of them in each group that exchanges heads, and the groups in which keys go round."""

    def __init__(self, ulysses: int):
        self.ranks, self.rank, self.ulysses = dist.get_world_size(), dist.get_rank(), ulysses
        groups = [range(start, start + ulysses) for start in range(0, self.ranks, ulysses)]
        rings = [range(start, self.ranks, ulysses) for start in range(ulysses)]
        made = {members: dist.new_group([*members]) for members in (*groups, *rings)}
        mine = lambda of: next(members for members in of if self.rank in members)
        self.members, self.ring = mine(groups), mine(rings)
        self.group = made[self.members]

    def share(self, t, rank=None):
        """A process's tokens of (rows, heads, tokens, dim)."""
        return t.tensor_split(self.ranks, 2)[self.rank if rank is None else rank]

    def n_tokens(self, n):
        """How many of n tokens each process has."""
        return [len(part) for part in torch.arange(n).tensor_split(self.ranks)]

    def n_of_group(self, n, rank):
        """How many of n tokens the processes of a rank's group have together."""
        start = rank // self.ulysses * self.ulysses
        return sum(self.n_tokens(n)[start : start + self.ulysses])

    def to_heads(self, t, n):
        """A share of all heads' tokens becomes, of the group's tokens, a share of the heads. n: of all processes."""
        ours = [self.n_tokens(n)[rank] for rank in self.members]
        shape = lambda tokens: (ROWS, HEADS // self.ulysses, tokens, DIM)
        return torch.cat(self._exchanged(t.chunk(self.ulysses, 1), [shape(tokens) for tokens in ours]), 2)

    def to_tokens(self, t, n):
        """The way back."""
        ours = [self.n_tokens(n)[rank] for rank in self.members]
        shape = ROWS, HEADS // self.ulysses, self.n_tokens(n)[self.rank], DIM
        return torch.cat(self._exchanged(t.split(ours, 2), [shape] * self.ulysses), 1)

    def _exchanged(self, parts, shapes):
        """What each member of the group has for this one, of what each has for each."""
        if self.ulysses == 1:
            return parts
        sizes = [torch.Size(shape).numel() for shape in shapes]
        flat = torch.cat([part.flatten() for part in parts])
        got = flat.new_empty(sum(sizes))
        dist.all_to_all_single(got, flat, sizes, [part.numel() for part in parts], group=self.group)
        return [part.view(shape) for part, shape in zip(got.split(sizes), shapes)]

    def around(self, t, n):
        """What each process of the ring has of such a tensor, this one's own first. n: tokens of all processes."""
        at = self.ring.index(self.rank)
        for step in range(1, len(self.ring) + 1):
            yield t
            if step < len(self.ring):
                tokens = self.n_of_group(n, self.ring[(at - step) % len(self.ring)])
                t = self._passed_on(t, t.new_empty(*t.shape[:2], tokens, DIM), at)

    def _passed_on(self, t, got, at):
        calls = []
        if t.numel():
            calls.append(dist.isend(t.contiguous(), self.ring[(at + 1) % len(self.ring)]))
        if got.numel():
            calls.append(dist.irecv(got, self.ring[at - 1]))
        for call in calls:
            call.wait()
        return got

    def summed(self, t):
        """Over the group, which has the same tokens and other heads."""
        if self.ulysses > 1:
            dist.all_reduce(t, group=self.group)
        return t


def attend(q, k, v):
    """(output, log-sum-exp) over some of the keys, maybe none."""
    scores = q @ k.transpose(2, 3) / DIM**0.5
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def over_ring(spread, q, k, v, n):
    """The same over the keys of all processes of the ring: each one's part is merged with those before it."""
    union = lambda a, b: (merge(a, b), torch.logaddexp(a[1], b[1]))
    return functools.reduce(union, (attend(q, *kv) for kv in zip(spread.around(k, n), spread.around(v, n))))


def guide_by_all_heads(spread, z_pos, z_neg, equation):
    """`guide` of a share of the heads: the L1 norms are of all heads', two numbers a token and one all-reduce."""
    z = extrapolated(z_pos, z_neg, SCALE)
    if equation == "orthogonal":  # so is what of the negative lies along the positive: one more
        products = [(z_neg * z_pos).sum(-1, keepdim=True), (z_pos * z_pos).sum(-1, keepdim=True)]
        both, own = spread.summed(torch.stack(products))
        z = z_pos - (SCALE - 1) * (z_neg - both / own * z_pos)
    of_extrapolated, of_positive = spread.summed(torch.stack([t.abs().sum(-1, keepdim=True) for t in (z, z_pos)]))
    return ALPHA * torch.clamp(TAU * of_positive / of_extrapolated, max=1) * z + (1 - ALPHA) * z_pos


def random_parts(seed):
    """Queries, keys and values of each part of the sequence, the same in every process."""
    generator = torch.Generator().manual_seed(seed)
    random = lambda n: 1.5 * torch.randn(ROWS, HEADS, n, DIM, generator=generator)
    return [{part: random(n) for part, n in COUNTS.items()} for _ in "qkv"]


def in_double(parts, *which):
    """Keys, or values, or queries of some parts behind each other, as the oracle takes them."""
    return torch.cat([parts[name].double().transpose(1, 2).flatten(2) for name in which], 1)


def check(spread, part, found, expected):
    """found: this process's share, of all heads; expected: (rows, tokens, features) of all processes."""
    expected = spread.share(expected.unflatten(-1, (HEADS, DIM)).transpose(1, 2))
    assert found.shape == expected.shape
    if expected.numel():
        error = ((found.double() - expected).norm() / expected.norm()).item()
        assert error < CLOSE, f"{part}, rank {spread.rank}: relative difference {error:.2g}"


def joint(ulysses, equation):
    """Joint attention: each prompt to itself and the image, the image to both."""
    spread = Spread(ulysses)
    q, k, v = random_parts(1)
    own_q, own_k, own_v = (
        {part: spread.to_heads(spread.share(t), COUNTS[part]) for part, t in of.items()} for of in (q, k, v)
    )
    queries = torch.cat([*own_q.values()], 2)
    of_group = {part: t.shape[2] for part, t in own_q.items()}
    segments = Segments(queries.shape[2], of_group["positive"], of_group["negative"])
    to = lambda part, own: over_ring(spread, own, own_k[part], own_v[part], COUNTS[part])
    parts = to("image", queries), to("positive", queries[:, :, segments.known]), to("negative", queries)
    if ulysses > 1 and equation in CAPPED:
        z = guide_joint(*parts, segments, 1.0, TAU, ALPHA)  # the prompts' tokens are not guided
        ((_, z_pos, z_neg),) = image_of_each(*parts, segments)
        z[:, segments.image] = guide_by_all_heads(spread, z_pos, z_neg, equation)
    else:
        z = guide_joint(*parts, segments, *NUMBERS, equation)
    found = z.unflatten(-1, (-1, DIM)).transpose(1, 2)
    for part, expected in exact_joint(q, k, v, equation).items():
        own = spread.to_tokens(found[:, :, getattr(segments, part)], COUNTS[part])
        check(spread, part, own, expected)


def exact_joint(q, k, v, equation):
    nag = exact.Nag([], *NUMBERS, equation=equation)
    over = lambda part, *keys: exact.attention(in_double(q, part), in_double(k, *keys), in_double(v, *keys), HEADS)
    known, other = ("positive", "image"), ("negative", "image")
    if equation == "vsf":
        keys = [(in_double(k, *which), in_double(v, *which)) for which in (known, ("negative",))]
        image = exact.flipped(in_double(q, "image"), *keys, HEADS, nag)
    else:
        image = exact.guide(over("image", *known), over("image", *other), nag)
    return {"negative": over("negative", *other), "positive": over("positive", *known), "image": image}


def cross(ulysses, equation):
    """Cross-attention of the image to each prompt, of which the processes have shares, too."""
    spread = Spread(ulysses)
    q, k, v = random_parts(2)
    own = lambda of, part: spread.to_heads(spread.share(of[part]), COUNTS[part])
    image = own(q, "image")
    each = [over_ring(spread, image, own(k, p), own(v, p), COUNTS[p])[0] for p in ("positive", "negative")]
    z_pos, z_neg = (z.transpose(1, 2).flatten(2) for z in each)
    if ulysses > 1 and equation in CAPPED:
        z = guide_by_all_heads(spread, z_pos, z_neg, equation)
    else:
        z = guide(z_pos, z_neg, *NUMBERS, equation=equation)
    over = lambda part: exact.attention(in_double(q, "image"), in_double(k, part), in_double(v, part), HEADS)
    expected = exact.guide(over("positive"), over("negative"), exact.Nag([], *NUMBERS, equation=equation))
    check(spread, "image", spread.to_tokens(z.unflatten(-1, (-1, DIM)).transpose(1, 2), N_IMAGE), expected)


def each_by_its_own_heads():
    """Why there is an all-reduce: by the norms of its own heads alone a process gets something else."""
    spread = Spread(dist.get_world_size())
    features = [of["image"] for of in random_parts(3)[:2]]
    z_pos, z_neg = (spread.to_heads(spread.share(t), N_IMAGE).transpose(1, 2).flatten(2) for t in features)
    whole = guide_by_all_heads(spread, z_pos, z_neg, "nag")
    alone = guide(z_pos, z_neg, *NUMBERS)
    assert (alone - whole).norm() / whole.norm() > 0.01


def cases(ranks):
    """By name: each way, with as many processes in a group of Ulysses's as it says, each kind and equation."""
    found = {}
    ways = {"ring": 1, "Ulysses": ranks, **({"both": ranks // 2} if ranks > 2 else {})}
    for way, ulysses in ways.items():
        for equation in ("nag", "orthogonal", "nasa", "vsf"):
            found[f"{way}, joint, {equation}"] = functools.partial(joint, ulysses, equation)
        for equation in ("nag", "orthogonal", "nasa"):
            found[f"{way}, cross, {equation}"] = functools.partial(cross, ulysses, equation)
    return found | {"Ulysses without the all-reduce": each_by_its_own_heads}
