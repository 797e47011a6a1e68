"""The equation taken apart, for the ablation, and tried token by token. Nothing of it is in what the pack ships or can
be asked for there."""
import contextlib
import importlib

import torch

NO_CAP = 1e30  # times the positive's norm; an infinite one would make nan of a token that is zero
ARITHMETIC = ("arithmetic.equation", "arithmetic.merge")
FUNCTIONS = {  # of the pack that change, and the modules that call them
    "guide_at_once": ARITHMETIC, "kernels_for": ARITHMETIC, "tokens_at_once": ARITHMETIC,
    "guide_joint": ("attention.override",),
}


@contextlib.contextmanager
def equation(pack, variant):
    """While it lasts, the pack computes a variant by its name in VARIANTS, or as it ships it for "".

    pack: its package. A variant is by PyTorch on any device, and of all tokens of a picture at once.
    """
    changes = VARIANTS[variant] | ALL_AT_ONCE if variant else {}
    modules = {name: [importlib.import_module(f"{pack.__name__}.patches.{where}") for where in FUNCTIONS[name]]
               for name in changes}  # all of them first: a module imported now would take what has changed for shipped
    before = [(module, name, getattr(module, name)) for name in changes for module in modules[name]]
    try:
        for module, name, shipped in before:
            setattr(module, name, changes[name](shipped))
        yield
    finally:
        for module, name, shipped in before:
            setattr(module, name, shipped)


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
    """nag_alpha by the measure(positive, negative) of each token, to a power.

    measure: of float32 features (batch, tokens, features), gives (batch, tokens, 1).
    """
    def changed(shipped):
        def at_once(positive, negative, scale, tau, alpha, *rest):
            alpha = weighted(alpha, measure(positive.float(), negative.float()).clamp_min(1e-6) ** power)
            return shipped(positive, negative, scale, tau, alpha, *rest)
        return at_once
    return changed


def _by_share(shipped):
    """nag_alpha by the share of an image token's attention that the negative has beside the image, of all heads."""
    def joint(to_image, to_positive, to_negative, segments, scale, tau, alpha, *rest):
        share = torch.sigmoid((to_negative[1] - to_image[1])[:, :, segments.image]).mean(1).unsqueeze(-1)
        return shipped(to_image, to_positive, to_negative, segments, scale, tau, weighted(alpha, share), *rest)
    return joint


def weighted(alpha, weight):
    """alpha, at most 1, of each token, (batch, tokens, 1): by a weight over its mean in the picture."""
    return (alpha * weight / weight.mean(-2, keepdim=True)).clamp_max(1)


def angle(positive, negative):
    """1 - cos(z+, z-): 0 for the same direction, 2 for opposite ones."""
    return 1 - torch.cosine_similarity(positive, negative, dim=-1).unsqueeze(-1)


def difference(positive, negative):
    """|z+ - z-|_1 / |z+|_1."""
    norm = lambda features: features.abs().sum(-1, keepdim=True)
    return norm(positive - negative) / norm(positive).clamp_min(torch.finfo(positive.dtype).tiny)


ALL_AT_ONCE = {"kernels_for": lambda shipped: lambda features: None,
               "tokens_at_once": lambda shipped: lambda features: features.shape[-2]}
VARIANTS = {  # {function of the pack: what makes another of it}
    "no cap": {"guide_at_once": _no_cap},
    "L2": {"guide_at_once": _l2},
    "by angle": {"guide_at_once": _by_token(angle)},
    "by root of angle": {"guide_at_once": _by_token(angle, 0.5)},
    "by difference": {"guide_at_once": _by_token(difference)},
    "against difference": {"guide_at_once": _by_token(difference, -0.5)},
    "by share of attention": {"guide_joint": _by_share},  # of joint attention alone
}
