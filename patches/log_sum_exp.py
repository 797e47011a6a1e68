"""Attention that also returns the log-sum-exp of its scores, and the exact merge of two such results.

Attention over the union of two sets of keys is the mean of the attention over each, weighted by the exponential of
their log-sum-exps (Dao et al., flash decoding). It lets the image's keys be met once for several prompts.
"""
from collections.abc import Callable

import torch

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def attention_like(func: Callable, q: torch.Tensor) -> Attention | None:
    """The log-sum-exp form of ComfyUI's attention function `func` for tensors such as `q`, or None if it has none.

    The returned function takes q, k, v of shape (batch, heads, tokens, head_dim) and returns the output, of q's
    shape, and the log-sum-exp, (batch, heads, tokens) in float32.
    """
    if getattr(func, "__name__", "") != "attention_pytorch":
        return None
    if q.device.type == "cpu":
        return _sdpa_cpu
    if q.device.type == "cuda" and torch.version.cuda and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256:
        return _sdpa_flash if _has_flash(q) else _sdpa_efficient
    return None


def _has_flash(q):
    if q.dtype not in (torch.float16, torch.bfloat16) or not torch.backends.cuda.is_flash_attention_available():
        return False
    return torch.cuda.get_device_capability(q.device) >= (8, 0)


def _sdpa_cpu(q, k, v):
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)


def _sdpa_flash(q, k, v):
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[:2]


def _sdpa_efficient(q, k, v):
    out, lse = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[:2]
    return out, lse[:, :, : q.shape[2]]  # the kernel pads it


def merge(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Attention over the keys of both, from the outputs and log-sum-exps of attention over each.

    Args:
        a, b: (output (batch, heads, tokens, head_dim), log-sum-exp (batch, heads, tokens)), from the same queries.

    Returns:
        (batch, heads, tokens, head_dim), in float32 at least.
    """
    (out_a, lse_a), (out_b, lse_b) = a, b
    precise = torch.promote_types(out_a.dtype, torch.float32)
    share_of_b = torch.sigmoid(lse_b.to(precise) - lse_a.to(precise)).unsqueeze(-1)
    return torch.lerp(out_a.to(precise), out_b.to(precise), share_of_b)
