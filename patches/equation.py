"""The equation of Normalized Attention Guidance (Chen et al. 2025, arXiv 2505.21179)."""
import torch


def guide(positive: torch.Tensor, negative: torch.Tensor, scale: float, tau: float, alpha: float) -> torch.Tensor:
    """Move attention features away from the negative's, cap how far, and blend.

    With z+ = `positive` and z- = `negative`, per token and over the features of all heads together:

        z~ = z+ + s (z+ - z-)                    extrapolate, s = scale - 1
        r  = |z~|_1 / |z+|_1
        z^ = z~ * min(r, tau) / r                normalise
        z  = alpha z^ + (1 - alpha) z+           refine

    Args:
        positive, negative: (..., tokens, features), of any floating dtype and equal shape; before the output
            projection. They are left as they are.
        scale: 1 + s, the `nag_scale` of ComfyUI nodes; 1 is off.
        tau: how many times the positive's L1 norm the extrapolated features may reach, at least 1.
        alpha: share of the guided features in the result, 0 to 1; 0 is off.

    Returns:
        A tensor of positive's shape and dtype; `positive` itself where scale or alpha switch NAG off. A token whose
        positive features are all zero stays zero, as the cap demands.
    """
    if scale == 1 or alpha == 0:
        return positive
    # In float16 the L1 norm of a few thousand features overflows, and the picture turns black.
    precise = torch.promote_types(positive.dtype, torch.float32)
    z_pos, z_neg = positive.to(precise), negative.to(precise)
    z = torch.lerp(z_neg, z_pos, scale)
    limit = tau * torch.linalg.vector_norm(z_pos, ord=1, dim=-1, keepdim=True)
    norm = torch.linalg.vector_norm(z, ord=1, dim=-1, keepdim=True)
    # min(r, tau) / r = min(1, tau |z+| / |z~|), which needs no division by the positive's norm.
    z *= (limit / norm.clamp_min(torch.finfo(precise).tiny)).clamp_max(1)
    return torch.lerp(z_pos, z, alpha).to(positive.dtype)
