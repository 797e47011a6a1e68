"""The equation taken apart, for the ablation. Nothing of it is in what the pack ships or can be asked for there."""
import contextlib
import importlib

import torch

NO_CAP = 1e30  # times the positive's norm; an infinite one would make nan of a token that is zero


@contextlib.contextmanager
def equation(pack, variant):
    """While it lasts, the pack computes a variant: "no cap", "L2", or as it ships it for "".

    pack: its package. "no cap" and "L2" are by PyTorch on any device.
    """
    if not variant:
        yield
        return
    modules = [importlib.import_module(f"{pack.__name__}.patches.arithmetic.{name}") for name in ("equation", "merge")]
    shipped = modules[0].guide_at_once
    ours = {"guide_at_once": VARIANTS[variant](shipped), "kernels_for": lambda features: None}
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
    """`guide_at_once` with the Euclidean norm in the place of L1's."""
    z_pos, z_neg = positive.float(), negative.float()
    z = torch.lerp(z_neg, z_pos, scale)
    norm = lambda features: torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    cap = (tau * norm(z_pos) / norm(z).clamp_min(torch.finfo(z.dtype).tiny)).clamp_max(1)
    z = torch.lerp(z_pos, z * cap, alpha).to(dtype)
    return z if out is None else out.copy_(z)


VARIANTS = {"no cap": _no_cap, "L2": _l2}
