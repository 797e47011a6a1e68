"""The equation taken apart, for the ablation, and tried token by token. Nothing of it is in what the pack ships or can be
asked for there."""
import contextlib
import importlib

import torch

NO_CAP = 1e30  # times the positive's norm; an infinite one would make nan of a token that is zero


@contextlib.contextmanager
def equation(pack, variant):
    """While it lasts, the pack computes a variant by its name in VARIANTS, or as it ships it for "".

    pack: its package. A variant is by PyTorch on any device, and of all tokens of a picture at once.
    """
    if not variant:
        yield
        return
    modules = [importlib.import_module(f"{pack.__name__}.patches.arithmetic.{name}") for name in ("equation", "merge")]
    shipped = modules[0].guide_at_once
    ours = {"guide_at_once": VARIANTS[variant](shipped), "kernels_for": lambda features: None,
            "tokens_at_once": lambda features: features.shape[-2]}
    before = [(module, name, getattr(module, name)) for module in modules for name in ours]
    try:
        for module, name, _ in before:
            setattr(module, name, ours[name])
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _no_cap(shipped):
    return lambda positive, negative, scale, tau, *rest: shipped(positive, negative, scale, NO_CAP, *rest)


def _l2(shipped):
    return l2_at_once


def l2_at_once(positive, negative, scale, tau, alpha, dtype, out=None, equation="nag"):
    """`guide_at_once` with the Euclidean norm in the place of L1's, of the equation nag alone."""
    z_pos, z_neg = positive.float(), negative.float()
    z = torch.lerp(z_neg, z_pos, scale)
    norm = lambda features: torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    cap = (tau * norm(z_pos) / norm(z).clamp_min(torch.finfo(z.dtype).tiny)).clamp_max(1)
    z = torch.lerp(z_pos, z * cap, alpha).to(dtype)
    return z if out is None else out.copy_(z)


def _by_token(measure, power=1.0):
    """nag_alpha, at most 1, times a weight for each token: a measure of it to a power, over the mean of the picture's.

    measure: of float32 features (..., tokens, features), the positive's and the negative's, gives (..., tokens, 1).
    """
    def variant(shipped):
        def at_once(positive, negative, scale, tau, alpha, *rest):
            weight = measure(positive.float(), negative.float()).clamp_min(1e-6) ** power
            weight = weight / weight.mean(-2, keepdim=True)
            return shipped(positive, negative, scale, tau, (alpha * weight).clamp_max(1), *rest)
        return at_once
    return variant


def angle(positive, negative):
    """1 - cos(z+, z-): 0 for the same direction, 2 for opposite ones."""
    return 1 - torch.cosine_similarity(positive, negative, dim=-1).unsqueeze(-1)


def difference(positive, negative):
    """|z+ - z-|_1 / |z+|_1."""
    norm = lambda features: features.abs().sum(-1, keepdim=True)
    return norm(positive - negative) / norm(positive).clamp_min(torch.finfo(positive.dtype).tiny)


VARIANTS = {
    "no cap": _no_cap, "L2": _l2,
    "by angle": _by_token(angle), "by root of angle": _by_token(angle, 0.5),
    "by difference": _by_token(difference), "against difference": _by_token(difference, -0.5),
}
