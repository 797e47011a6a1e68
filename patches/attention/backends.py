"""The log-sum-exp forms of ComfyUI's attention functions, by the kernels that those functions use themselves.

Attention to a set of keys can be put together from attention to its parts if each part also returns the log-sum-exp
of its scores. The kernels compute it anyway; ComfyUI's functions drop it. So for the function that the user chose, we
look at what it runs and call that with the log-sum-exp asked for. A trial on small tensors decides, once per device,
dtype, head dimension, number of queries' heads to one of the keys', and whether there is a mask: what raises there, or
returns another log-sum-exp than the one defined here (libraries differ in its base, in the scale, and in what they
subtract from the keys first), is not used.
"""
import functools
import logging
from collections.abc import Callable
from operator import index

import comfy.ldm.modules.attention as host
import torch
from torch.utils._python_dispatch import TorchDispatchMode

Attention = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], tuple[torch.Tensor, torch.Tensor]
]
HIDDEN = -3e4  # added to the scores of hidden keys. Not -inf: kernels return NaN, 0 or inf for rows of nothing else
LARGEST_BATCH = 2**15  # where ComfyUI has no SDP_BATCH_LIMIT: its lowest, that for NVIDIA's cards
TOLERANCE = 0.2  # of the trial: far above what 8-bit kernels are off, far below what another definition would be
aten = torch.ops.aten


def with_log_sum_exp(func: Callable, q: torch.Tensor, masked: bool, sharing: int = 1) -> Attention | None:
    """The form of ComfyUI's attention function `func` that also returns the log-sum-exp, or None if it has none.

    Args:
        func: what ComfyUI hands to an `optimized_attention_override`.
        q: (batch, heads, tokens, head_dim); its device, dtype and head_dim matter.
        masked: whether the form will be called with masks.
        sharing: how many heads of the queries share one of the keys and values (grouped-query attention).

    Returns:
        attention(q, k, v, bias) -> (output, log-sum-exp), or None. q, k and v are (batch, heads, tokens, head_dim), of
        any strides but in the last dimension. The bias is None or what `as_bias` makes of a mask. The output is in q's
        dtype; the log-sum-exp, (batch, heads, queries), in float32 at least: that of q @ k.T / sqrt(head_dim) + bias,
        by the natural logarithm. It is below -1e4 for queries that see no key, whose output means nothing. Where heads
        are shared, and the kernel does not know of that, each call copies k and v to as many heads as q has.
    """
    name = getattr(func, "__name__", "")
    if name not in FUNCTIONS or q.shape[0] > getattr(host, "SDP_BATCH_LIMIT", LARGEST_BATCH):
        return None
    wrapper = getattr(host, name, None)
    if func is not wrapper and func is not getattr(wrapper, "__wrapped__", None):  # a namesake of another's
        return None
    head_dim, sharing = index(q.shape[-1]), index(sharing)  # of torch.compile's symbolic sizes it makes constants
    case = name, q.device, q.dtype, head_dim, masked
    kernel = _kernel(*case, sharing)
    if kernel:
        return functools.partial(_call, KERNELS[kernel])
    kernel = _kernel(*case, 1) if sharing > 1 else None
    return functools.partial(_call_unshared, KERNELS[kernel]) if kernel else None


@torch.compiler.assume_constant_result  # the trial runs while torch.compile traces, and is not traced
def _kernel(name, device, dtype, head_dim, masked, sharing):
    if device.type == "meta":  # nothing is computed there, only counted
        return "_scaled_dot_product_flash_attention_for_cpu"
    return _choose(name, device, dtype, head_dim, masked, sharing)


@functools.cache
def _choose(*case):
    """The name in KERNELS of the kernel to use, or None."""
    try:
        with torch.inference_mode(False), torch.no_grad():  # inference mode would hide SDPA's kernel from `_Operators`
            kernel, why_not = _try(*case)
    except Exception as error:  # whatever a library raises, ComfyUI's function may still work
        kernel, why_not = None, f"{type(error).__name__}: {error}"
    name, device, dtype, head_dim, masked, sharing = case
    outcome = f"log-sum-exp by {kernel}" if kernel else f"two exact calls, no log-sum-exp ({why_not})"
    kind = ", masked" * masked + f", {sharing} heads to one of the keys" * (sharing > 1)
    logging.debug(f"NAG: {name}, {device}, {dtype}, head_dim {head_dim}{kind}: {outcome}")
    return kernel


def _try(name, *like):
    """The name of the kernel for such tensors and None, or None and why not."""
    q, k, v, mask = _tensors(*like)
    bias = None if mask is None else as_bias(mask, q.dtype)
    with _Operators() as operators:
        shared = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}
        getattr(host, name)(q, k, v, q.shape[1], mask=bias, skip_reshape=True, **shared)
    # ComfyUI's functions fall back to SDPA, of which we know the operators, for what their library does not support.
    kernel = next((operator for operator in operators.names if operator in KERNELS), FUNCTIONS[name])
    if kernel is None:
        return None, f"it runs {', '.join(dict.fromkeys(operators.names))}"
    q, k, v, mask = _tensors(*like)  # new ones: SageAttention 1 writes into the keys
    masks = [None] if mask is None else [mask, mask[:, :, 1:2]]  # for each query, and one for all
    error = sum(_error(KERNELS[kernel], q, k, v, mask) for mask in masks)
    return (kernel, None) if error < TOLERANCE else (None, f"{kernel} is off by {error:.2g}")


class _Operators(TorchDispatchMode):
    """Notes the names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _tensors(device, dtype, head_dim, masked, sharing):
    """q, k, v and a mask that hides everything from the first query, all of them slices of larger tensors.

    ComfyUI and the libraries choose kernels by size too, so q has the 2**17 elements from which ComfyUI counts it as
    large. The number of keys is odd, as a prompt's can be. The keys have a mean, which SageAttention takes away.
    """
    batch, heads, n_queries, n_keys = 2, 4, 2**14 // head_dim + 65, 77
    generator = torch.Generator().manual_seed(0)  # leave the sampler's alone
    random = lambda *shape: torch.randn(shape, generator=generator, device="cpu")
    q = random(batch, 8 + n_queries, sharing * heads, head_dim)
    k, v = (random(batch, 8 + n_keys, heads, head_dim) for _ in "kv")
    q, k, v = (t.to(device, dtype)[:, 8:].transpose(1, 2) for t in (q, k + random(heads, head_dim), v))
    if not masked:
        return q, k, v, None
    mask = random(batch, 1, n_queries, 5 + n_keys) > -0.5
    mask[:, :, 0] = False
    return q, k, v, mask.to(device)[..., 5:]


def _error(kernel, q, k, v, mask):
    """By how much output and log-sum-exp are off at most; NaN if either is."""
    k_each, v_each = (_exact(t) for t in _unshared(q, k, v))
    scores = _exact(q) @ k_each.transpose(2, 3) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask.cpu(), -torch.inf)
    expected = scores.softmax(-1) @ v_each, scores.logsumexp(-1)
    found = _call(kernel, q, k, v, None if mask is None else as_bias(mask, q.dtype))
    if [t.shape for t in found] != [t.shape for t in expected] or found[0].dtype != q.dtype:
        raise ValueError(f"returns {[(t.dtype, tuple(t.shape)) for t in found]}")
    if mask is not None and mask.shape[2] > 1:  # the first query sees nothing
        if not (found[1][:, :, 0] < -1e4).all():
            raise ValueError(f"log-sum-exp {found[1][0, 0, 0]} of no keys")
        found, expected = ([t[:, :, 1:] for t in pair] for pair in (found, expected))
    return sum((_exact(a) - b).abs().max().item() for a, b in zip(found, expected))


def _exact(t):
    return t.cpu().double()  # some devices have no float64


def _call(kernel, q, k, v, bias=None):
    out, lse, *_ = kernel(q, k, v, bias)
    return out, lse.flatten(2)[:, :, : q.shape[2]]  # cuDNN's is (..., queries, 1), others are padded


def _call_unshared(kernel, q, k, v, bias=None):
    return _call(kernel, q, *_unshared(q, k, v), bias)


def _unshared(q, k, v):
    """Keys and values with a head for each of the queries': views of a single head, copies of several."""
    sharing = q.shape[1] // k.shape[1]
    if k.shape[1] == 1:
        return tuple(t.expand(-1, sharing, -1, -1) for t in (k, v))
    return tuple(t.repeat_interleave(sharing, 1) for t in (k, v))


def as_bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """An attention mask as the forms take it: added to the scores, and finite.

    Args:
        mask: boolean (True attends) or added to the scores; (..., queries, keys), of at most four dimensions.
        dtype: of the queries.

    Returns:
        (batch or 1, heads or 1, queries, keys), with rows that start at multiples of 16 elements, as some kernels need.
    """
    mask = mask[(None,) * (4 - mask.ndim)]
    bias = torch.where(mask, 0.0, HIDDEN) if mask.dtype == torch.bool else mask.clamp(min=HIDDEN)
    n_keys = bias.shape[-1]
    return torch.nn.functional.pad(bias.to(dtype), (0, -n_keys % 16))[..., :n_keys]


def _expanded(bias, q):
    return None if bias is None else bias.expand(*q.shape[:3], -1)


def _sdpa_cpu(q, k, v, bias):
    return aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias)


def _sdpa_flash(q, k, v, bias):
    if bias is not None:
        raise NotImplementedError("takes no mask")
    return aten._scaled_dot_product_flash_attention(q, k, v)


def _sdpa_efficient(q, k, v, bias):
    return aten._scaled_dot_product_efficient_attention(q, k, v, _expanded(bias, q), True)


def _sdpa_cudnn(q, k, v, bias):
    if k.shape[2] == 1:  # cuDNN refuses; so PyTorch takes another kernel
        return _sdpa_efficient(q, k, v, bias)
    bias = None if bias is None else bias.expand(q.shape[0], -1, q.shape[2], -1)
    return aten._scaled_dot_product_cudnn_attention(q, k, v, bias, True)


def _flash_attn(q, k, v, bias):
    if bias is not None:
        raise NotImplementedError("takes no mask")
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    out, *rest = host.flash_attn_func(q, k, v, return_attn_probs=True)
    return out.transpose(1, 2), *rest


def _sageattention(q, k, v, bias):
    if bias is not None:
        raise NotImplementedError("takes no mask")
    return host.sageattn(q, k, v, tensor_layout="HND", is_causal=False, return_lse=True)


def _xformers(q, k, v, bias):
    bias = _expanded(bias, q)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    out, lse = host.xformers.ops.memory_efficient_attention_forward_requires_grad(q, k, v, attn_bias=bias)
    return out.transpose(1, 2), lse


# The operators of which PyTorch's scaled_dot_product_attention runs one, and the libraries.
KERNELS = {
    "_scaled_dot_product_flash_attention_for_cpu": _sdpa_cpu,
    "_scaled_dot_product_flash_attention": _sdpa_flash,
    "_scaled_dot_product_efficient_attention": _sdpa_efficient,
    "_scaled_dot_product_cudnn_attention": _sdpa_cudnn,
    "FlashAttention": _flash_attn,
    "SageAttention": _sageattention,
    "xFormers": _xformers,
}
# ComfyUI's attention functions, with the library that each calls. The others have no log-sum-exp.
FUNCTIONS = {
    "attention_pytorch": None,
    "attention_flash": "FlashAttention",
    "attention_sage": "SageAttention",
    "attention_xformers": "xFormers",
}
