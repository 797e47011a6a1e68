"""The log-sum-exp forms of ComfyUI's attention functions, against attention written out in float64."""
import logging
import types

import comfy.ldm.modules.attention as host
import pytest
import torch

HEADS, HEAD_DIM, QUERIES, KEYS = 3, 16, 7, 13
DTYPES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
NO_KERNEL = ["attention_basic", "attention_split", "attention_sub_quad"]


@pytest.fixture
def backends(patches):
    """The module under test, without what it remembers of other tests."""
    backends = patches("attention.backends")
    backends._choose.cache_clear()
    yield backends
    backends._choose.cache_clear()


def random(*shape, seed=0, dtype=torch.float32):
    return (2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def tensors(dtype=torch.float32, n_queries=QUERIES, n_keys=KEYS):
    """q, k and v as a model's are: slices of longer sequences, with the heads before or after the tokens."""
    q = random(2, 4 + n_queries, HEADS, HEAD_DIM, dtype=dtype)[:, 4:].transpose(1, 2)
    k, v = (random(2, HEADS, n_keys + 3, HEAD_DIM, seed=i, dtype=dtype)[:, :, :n_keys] for i in (1, 2))
    return q, k, v


def exact(q, k, v, mask=None):
    """Where queries outnumber keys in heads, so many of those next to each other share one of these."""
    q, k, v = q.double(), *(t.double().repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.double()
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def form(backends, function="attention_pytorch", q=None, masked=False, sharing=1):
    """As an override asks for it: with the function inside ComfyUI's wrapper."""
    q = tensors()[0] if q is None else q
    attend = backends.with_log_sum_exp(getattr(host, function).__wrapped__, q, masked, sharing)
    return attend and (lambda q, k, v, mask=None: attend(q, k, v, mask if mask is None else bias(backends, q, mask)))


def with_shared_heads(sharing, dtype=torch.float32):
    """q, k and v, of which the first has so many times the others' heads."""
    q, k, v = tensors(dtype)
    return random(2, sharing * HEADS, QUERIES, HEAD_DIM, dtype=dtype), k, v


def bias(backends, q, mask):
    return backends.as_bias(mask, q.dtype)


def close(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected):
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


class TestPyTorch:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_is_exact(self, backends, dtype):
        q, k, v = tensors(dtype)
        out, lse = form(backends, q=q)(q, k, v, None)
        assert out.dtype == dtype
        assert lse.dtype == torch.promote_types(dtype, torch.float32)
        close((out, lse), exact(q, k, v), DTYPES[dtype])

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shape", [(2, HEADS, 7, 13), (2, 1, 7, 13), (1, 1, 1, 13), (2, 1, 1, 13), (2, HEADS, 7, 1),
                                       (1, 7, 13), (7, 13), (13,)], ids=str)  # fmt: skip
    def test_takes_masks(self, backends, dtype, shape):
        q, k, v = tensors(dtype)
        allowed = random(*shape, seed=3) > -1
        allowed[..., 0] = True
        for mask in (allowed, random(*shape, seed=3, dtype=dtype), random(*shape, seed=3)):
            found = form(backends, q=q, masked=True)(q, k, v, mask)
            close(found, exact(q, k, v, mask), 2 * DTYPES[dtype])

    def test_takes_slices_of_masks(self, backends):
        q, k, v = tensors()
        mask = random(2, 1, 20, 30)[:, :, 5:, 9:][:, :, :QUERIES, :KEYS]
        close(form(backends, masked=True)(q, k, v, mask), exact(q, k, v, mask))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("hidden", [False, -torch.inf, -1e30], ids=str)
    def test_a_query_that_sees_nothing_weighs_nothing(self, backends, dtype, hidden):
        q, k, v = tensors(dtype)
        mask = torch.ones(2, 1, QUERIES, KEYS, dtype=torch.bool)
        mask[:, :, 2] = False
        if hidden is not False:
            mask = torch.zeros(mask.shape).masked_fill(~mask, hidden)
        out, lse = form(backends, q=q, masked=True)(q, k, v, mask)
        assert (lse[:, :, 2] < -1e4).all() and out.isfinite().all()
        others = torch.arange(QUERIES) != 2
        close((out[:, :, others], lse[:, :, others]), (t[:, :, others] for t in exact(q, k, v)), DTYPES[dtype])

    @pytest.mark.parametrize("masked", [False, True])
    def test_parts_merge_into_the_whole(self, backends, masked):
        """Also where only one part has keys that a query sees."""
        q, k, v = tensors(torch.float64)
        mask = random(2, 1, QUERIES, KEYS) > 0 if masked else None
        if masked:
            mask[:, :, 0, :5], mask[:, :, 0, 5] = False, True
        attend = form(backends, q=q, masked=masked)
        parts = [slice(5), slice(5, KEYS)]
        parts = [attend(q, k[:, :, p], v[:, :, p], None if mask is None else mask[..., p]) for p in parts]
        lse = torch.logaddexp(parts[0][1], parts[1][1])
        out = sum(out * (part - lse).exp().unsqueeze(-1) for out, part in parts)
        close((out, lse), exact(q, k, v, mask), 1e-12)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("sharing", [2, 5])
    def test_takes_shared_heads(self, backends, dtype, sharing):
        q, k, v = with_shared_heads(sharing, dtype)
        out, lse = form(backends, q=q, sharing=sharing)(q, k, v)
        assert out.dtype == dtype and lse.dtype == torch.promote_types(dtype, torch.float32)
        close((out, lse), exact(q, k, v), DTYPES[dtype])
        for shape in [(2, 1, QUERIES, KEYS), (2, sharing * HEADS, QUERIES, KEYS), (2, 1, 1, KEYS)]:
            mask = random(*shape, seed=3) > -1
            found = form(backends, q=q, masked=True, sharing=sharing)(q, k, v, mask)
            close(found, exact(q, k, v, mask), 2 * DTYPES[dtype])

    def test_takes_one_head_for_all(self, backends):
        q, k, v = with_shared_heads(1)
        k, v = k[:, 1:2], v[:, 1:2]
        close(form(backends, sharing=HEADS)(q, k, v), exact(q, k, v))

    def test_is_exact_for_one_key_and_one_query(self, backends):
        for sizes in ((1, KEYS), (QUERIES, 1), (1, 1)):
            q, k, v = tensors(torch.float32, *sizes)
            close(form(backends)(q, k, v, None), exact(q, k, v))

    @pytest.mark.parametrize("head_dim", [7, 40, 128, 256])
    def test_head_dims(self, backends, head_dim):
        q, k, v = (random(1, 2, 9, head_dim, seed=i) for i in range(3))
        close(form(backends, q=q)(q, k, v, None), exact(q, k, v))

    def test_works_in_inference_mode(self, backends, inference_mode):
        q, k, v = tensors()
        close(form(backends)(q, k, v, None), exact(q, k, v))

    @pytest.mark.parametrize("inference", [False, True])
    def test_compiles_whole(self, backends, inference):
        """The trial is not traced, nor does it break the graph."""
        def attend(q, k, v):
            return form(backends, q=q)(q, k, v, None)

        q, k, v = tensors()
        torch._dynamo.reset()
        with torch.inference_mode(inference):
            close(torch.compile(attend, backend="eager", fullgraph=True)(q, k, v), exact(q, k, v))
        assert backends._choose.cache_info().currsize == 1

    def test_compiles_with_shared_heads(self, backends):
        def attend(q, k, v):
            return form(backends, q=q, sharing=q.shape[1] // k.shape[1])(q, k, v)

        q, k, v = with_shared_heads(2)
        torch._dynamo.reset()
        close(torch.compile(attend, backend="eager", fullgraph=True)(q, k, v), exact(q, k, v))

    def test_counts_on_the_meta_device(self, backends):
        q, k, v = (t.to("meta") for t in tensors())
        out, lse = form(backends, q=q)(q, k, v, None)
        assert out.shape == q.shape and lse.shape == q.shape[:3]
        q, k, v = (t.to("meta") for t in with_shared_heads(2))
        out, lse = form(backends, q=q, sharing=2)(q, k, v, None)
        assert out.shape == q.shape and lse.shape == q.shape[:3]


class TestChoice:
    @pytest.mark.parametrize("function", NO_KERNEL)
    def test_others_have_none(self, backends, function):
        assert form(backends, function) is None

    def test_namesakes_have_none(self, backends):
        def attention_pytorch(*args, **kwargs):
            raise AssertionError

        assert backends.with_log_sum_exp(attention_pytorch, tensors()[0], False) is None
        assert backends.with_log_sum_exp(torch.nn.Identity(), tensors()[0], False) is None

    def test_the_wrapper_is_known_too(self, backends):
        """ComfyUI hands out what it wraps; other nodes may hand on what the module holds."""
        assert backends.with_log_sum_exp(host.attention_pytorch, tensors()[0], False) is not None

    def test_huge_batches_have_none(self, backends, monkeypatch):
        """ComfyUI splits them for the kernels' sake."""
        monkeypatch.setattr(host, "SDP_BATCH_LIMIT", 1)
        assert form(backends) is None

    def test_a_comfyui_that_names_no_limit(self, backends, monkeypatch):
        """Or names it otherwise. The lowest that there has been holds then."""
        without = {name: value for name, value in vars(host).items() if name != "SDP_BATCH_LIMIT"}
        monkeypatch.setattr(backends, "host", types.SimpleNamespace(**without))
        q, k, v = tensors()
        close(form(backends)(q, k, v), exact(q, k, v))
        largest = torch.empty(2**15, 1, 1, HEAD_DIM, device="meta")
        assert form(backends, q=largest) is not None
        assert form(backends, q=torch.cat((largest, largest[:1]))) is None

    @pytest.mark.parametrize("sharing", [1, 2])
    def test_tries_once(self, backends, monkeypatch, sharing):
        assert form(backends, sharing=sharing) is not None
        monkeypatch.setattr(backends, "_try", lambda *args: pytest.fail("tried again"))
        assert form(backends, sharing=sharing) is not None

    def test_a_kernel_that_shares_heads_in_another_order_gets_each_its_own(self, backends, monkeypatch):
        name = "_scaled_dot_product_flash_attention_for_cpu"
        right = backends._sdpa_cpu
        in_turns = lambda q, k, v, bias: right(q, *(t.repeat(1, q.shape[1] // t.shape[1], 1, 1) for t in (k, v)), bias)
        monkeypatch.setitem(backends.KERNELS, name, in_turns)
        q, k, v = with_shared_heads(2)
        close(form(backends, q=q, sharing=2)(q, k, v), exact(q, k, v))

    def test_a_mask_of_keys_is_tried_too(self, backends, monkeypatch):
        """A kernel may take a mask that has all queries, and not one that has the same for all."""
        name = "_scaled_dot_product_flash_attention_for_cpu"
        right = backends._sdpa_cpu

        def with_all_queries(q, k, v, bias):
            assert bias is None or bias.shape[2] == q.shape[2]
            return right(q, k, v, bias)

        monkeypatch.setitem(backends.KERNELS, name, with_all_queries)
        assert form(backends) is not None
        assert form(backends, masked=True) is None

    def test_leaves_random_numbers_alone(self, backends):
        before = torch.get_rng_state()
        form(backends, masked=True)
        assert torch.equal(before, torch.get_rng_state())

    def test_the_written_out_kernel_has_none(self, backends):
        """SDPA's math kernel is no operator, so there is nothing that could return the log-sum-exp."""
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            assert form(backends) is None

    def test_a_wrong_kernel_is_refused(self, backends, monkeypatch):
        right = backends._sdpa_cpu
        in_bits = lambda *args: (right(*args)[0], right(*args)[1] / 0.6931)
        not_a_number = lambda *args: (right(*args)[0] * torch.nan, right(*args)[1])
        monkeypatch.setitem(backends.KERNELS, "_scaled_dot_product_flash_attention_for_cpu", in_bits)
        assert form(backends) is None
        backends._choose.cache_clear()
        monkeypatch.setitem(backends.KERNELS, "_scaled_dot_product_flash_attention_for_cpu", not_a_number)
        assert form(backends) is None

    def test_says_what_it_chose(self, backends, caplog):
        caplog.set_level(logging.DEBUG)
        form(backends), form(backends)
        assert [r.message for r in caplog.records if r.message.startswith("NAG: ")] == [
            "NAG: attention_pytorch, cpu, torch.float32, head_dim 16: "
            "log-sum-exp by _scaled_dot_product_flash_attention_for_cpu"
        ]

    def test_says_what_it_chose_for_shared_heads(self, backends, caplog):
        caplog.set_level(logging.DEBUG)
        form(backends, masked=True, sharing=2)
        said = [r.message for r in caplog.records if r.message.startswith("NAG: ")]
        assert all(message.startswith("NAG: attention_pytorch, cpu, torch.float32, head_dim 16, ") for message in said)
        assert ", masked, 2 heads to one of the keys: " in said[0]


class TestCudaKernels:
    """Their shapes only, by PyTorch's own rules for tensors without data."""

    @pytest.mark.parametrize(
        ("kernel", "masked"),
        [("flash", False), ("efficient", False), ("efficient", True), ("cudnn", False), ("cudnn", True)],
    )
    @pytest.mark.parametrize("n_keys", [1, 77, 128])
    def test_shapes(self, backends, kernel, masked, n_keys):
        q, k, v = (t.to("meta", torch.bfloat16) for t in tensors(n_keys=n_keys))
        mask = torch.ones(1, 1, QUERIES, n_keys, dtype=torch.bool, device="meta") if masked else None
        mask = mask if mask is None else bias(backends, q, mask)
        out, lse = backends._call(getattr(backends, f"_sdpa_{kernel}"), q, k, v, mask)
        assert out.shape == q.shape and out.dtype == q.dtype
        assert lse.shape == q.shape[:3] and lse.dtype == torch.float32

    @pytest.mark.parametrize("kernel", ["flash", "efficient", "cudnn"])
    def test_keys_and_values_for_each_head(self, backends, kernel):
        q, k, v = (t.to("meta", torch.bfloat16) for t in with_shared_heads(2))
        out, lse = backends._call_unshared(getattr(backends, f"_sdpa_{kernel}"), q, k, v)
        assert out.shape == q.shape and lse.shape == q.shape[:3]

    @pytest.mark.parametrize("n_keys", [1, 77, 128])
    def test_rows_of_the_mask_are_aligned(self, backends, n_keys):
        for shape in [(2, 1, QUERIES, n_keys), (1, 1, 1, n_keys), (QUERIES, n_keys)]:
            made = backends.as_bias(torch.ones(shape, dtype=torch.bool), torch.bfloat16)
            assert made.shape[-2:] == shape[-2:] and made.ndim == 4 and made.stride(-1) == 1
            assert made.storage_offset() == 0 and all(stride % 16 == 0 for stride in made.stride()[:-1])


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0,
                    alibi_slopes=None, deterministic=False, return_attn_probs=False):  # fmt: skip
    """Stands in for flash-attn 2.8's, (batch, tokens, heads, head_dim), with padded log-sum-exps."""
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
    out, lse = exact(*(t.transpose(1, 2) for t in (q, k, v)))
    out, lse = out.to(q.dtype).transpose(1, 2), torch.nn.functional.pad(lse.float(), (0, 5), value=torch.inf)
    return (out, lse, None) if return_attn_probs else out


def sageattn(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, return_lse=False, **kwargs):
    """Stands in for SageAttention 2.2's."""
    assert q.dtype in (torch.float16, torch.bfloat16), "Input tensors must be in dtype of torch.float16 or bfloat16"
    assert tensor_layout == "HND" and sm_scale is None and not is_causal
    out, lse = exact(q, k, v)
    return (out.to(q.dtype), lse.float()) if return_lse else out.to(q.dtype)


def sageattn_1(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, smooth_k=True, **kwargs):
    """Stands in for SageAttention 1.0.6's, which has no log-sum-exp, ignores the wish for it, and changes the keys."""
    out = exact(q, k, v)[0].to(q.dtype)
    k -= k.mean(2, keepdim=True)
    return out


class Xformers:
    """Stands in for xformers 0.0.35's ops, (batch, tokens, heads, head_dim), with padded log-sum-exps."""

    def memory_efficient_attention(self, query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None):
        return self.memory_efficient_attention_forward_requires_grad(query, key, value, attn_bias, p, scale)[0]

    def memory_efficient_attention_forward_requires_grad(
        self, query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None, output_dtype=None
    ):
        assert query.shape[2] == key.shape[2] == value.shape[2]
        if attn_bias is not None:
            assert attn_bias.shape == (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
            assert attn_bias.dtype == query.dtype and attn_bias.stride(2) % 8 == 0
        out, lse = exact(*(t.transpose(1, 2) for t in (query, key, value)), attn_bias)
        lse = torch.nn.functional.pad(lse.float(), (0, -lse.shape[-1] % 32), value=torch.inf)
        return out.to(query.dtype).transpose(1, 2), lse


@pytest.fixture
def library(monkeypatch):
    """Puts a library where ComfyUI's own functions, and ours, look for it."""
    return lambda name, it: monkeypatch.setattr(host, name, it, raising=False)


class TestLibraries:
    dtype = torch.float16
    LIBRARIES = {
        "attention_flash": ("flash_attn_func", flash_attn_func),
        "attention_sage": ("sageattn", sageattn),
        "attention_xformers": ("xformers", types.SimpleNamespace(ops=Xformers())),
    }

    def watched(self, library, monkeypatch, backends, function):
        """Puts the library in place; the list of the kernels that are called from then on."""
        library(*self.LIBRARIES[function])
        calls = []
        for name, kernel in list(backends.KERNELS.items()):
            spy = lambda *args, kernel=kernel, name=name: calls.append(name) or kernel(*args)
            monkeypatch.setitem(backends.KERNELS, name, spy)
        return calls

    @pytest.mark.parametrize("function", LIBRARIES)
    def test_computes_by_the_library(self, backends, library, monkeypatch, function):
        calls = self.watched(library, monkeypatch, backends, function)
        q, k, v = tensors(self.dtype)
        close(form(backends, function, q)(q, k, v, None), exact(q, k, v), DTYPES[self.dtype])
        assert set(calls) == {backends.FUNCTIONS[function]}

    @pytest.mark.parametrize("function", LIBRARIES)
    def test_shared_heads(self, backends, library, monkeypatch, function):
        """FlashAttention and SageAttention take them; xFormers wants a head of the keys for each of the queries'."""
        calls = self.watched(library, monkeypatch, backends, function)
        q, k, v = with_shared_heads(2, self.dtype)
        close(form(backends, function, q, sharing=2)(q, k, v), exact(q, k, v), DTYPES[self.dtype])
        assert set(calls) == {backends.FUNCTIONS[function]}
        assert (backends._choose.cache_info().currsize == 1) == (function != "attention_xformers")

    def test_xformers_takes_masks(self, backends, library, monkeypatch):
        calls = self.watched(library, monkeypatch, backends, "attention_xformers")
        q, k, v = tensors(self.dtype)
        mask = random(QUERIES, KEYS, seed=3) > -1
        close(form(backends, "attention_xformers", q, True)(q, k, v, mask), exact(q, k, v, mask), DTYPES[self.dtype])
        assert set(calls) == {"xFormers"}

    def test_flash_attention_leaves_masks_to_pytorch(self, backends, library, monkeypatch):
        calls = self.watched(library, monkeypatch, backends, "attention_flash")
        q, k, v = tensors(self.dtype)
        mask = random(QUERIES, KEYS, seed=3) > -1
        close(form(backends, "attention_flash", q, True)(q, k, v, mask), exact(q, k, v, mask), DTYPES[self.dtype])
        assert set(calls) == {"_scaled_dot_product_flash_attention_for_cpu"}

    def test_sageattention_and_masks(self, backends, library, monkeypatch):
        """Where ComfyUI hands the mask to SageAttention there is no log-sum-exp; newer versions go to PyTorch."""
        calls = self.watched(library, monkeypatch, backends, "attention_sage")
        q, k, v = tensors(self.dtype)
        attend = form(backends, "attention_sage", q, True)
        if hasattr(host, "SAGE_ATTENTION_SUPPORTS_MASK"):
            mask = random(QUERIES, KEYS, seed=3) > -1
            close(attend(q, k, v, mask), exact(q, k, v, mask), DTYPES[self.dtype])
            assert set(calls) == {"_scaled_dot_product_flash_attention_for_cpu"}
        else:
            assert attend is None

    def test_sageattention_leaves_float32_to_pytorch(self, backends, library, monkeypatch):
        calls = self.watched(library, monkeypatch, backends, "attention_sage")
        q, k, v = tensors()
        close(form(backends, "attention_sage", q)(q, k, v, None), exact(q, k, v))
        assert set(calls) == {"_scaled_dot_product_flash_attention_for_cpu"}

    def test_flash_attention_falls_back_to_pytorch(self, backends, library, monkeypatch):
        """ComfyUI catches what the library raises, at head dimensions above 256, say."""
        def flash_attn_func(*args, **kwargs):
            raise RuntimeError("FlashAttention forward only supports head dimension at most 256")

        calls = self.watched(library, monkeypatch, backends, "attention_flash")
        library("flash_attn_func", flash_attn_func)
        q, k, v = tensors()
        close(form(backends, "attention_flash", q)(q, k, v, None), exact(q, k, v))
        assert set(calls) == {"_scaled_dot_product_flash_attention_for_cpu"}

    def test_sageattention_1_has_none(self, backends, library):
        library("sageattn", sageattn_1)
        assert form(backends, "attention_sage", tensors(self.dtype)[0]) is None

    @pytest.mark.parametrize("wrong", ["base", "scale", "mean", "layout", "nothing"])
    def test_another_log_sum_exp_is_refused(self, backends, library, wrong):
        def sageattn_another(q, k, v, return_lse=False, **kwargs):
            out, lse = sageattn(q, k, v, return_lse=True)
            lse = {
                "base": lambda: lse * 1.442695,
                "scale": lambda: exact(q * q.shape[-1] ** 0.5, k, v)[1].float(),
                "mean": lambda: exact(q, k - k.mean(2, keepdim=True), v)[1].float(),
                "layout": lambda: lse.transpose(1, 2),
                "nothing": lambda: None,
            }[wrong]()
            return (out, lse) if return_lse else out

        library("sageattn", sageattn_another)
        assert form(backends, "attention_sage", tensors(self.dtype)[0]) is None

    def test_these_are_all_that_is_tried(self, patches):
        """So that each is tested where it is missing."""
        tried = {need.partition(":")[2].partition(".")[0] for need in patches("capabilities").TRIED}
        assert tried == {name for name, _ in self.LIBRARIES.values()}

    @pytest.mark.parametrize("function", LIBRARIES)
    def test_without_the_library(self, backends, monkeypatch, function):
        """ComfyUI's functions fall back to PyTorch's attention, that for xformers fails."""
        monkeypatch.delattr(host, self.LIBRARIES[function][0], raising=False)
        q, k, v = tensors()
        attend = form(backends, function, q)
        if function == "attention_xformers":
            assert attend is None
        else:
            close(attend(q, k, v, None), exact(q, k, v))

    def test_a_failing_library_has_none(self, backends, library):
        def sageattn_without(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, **kwargs):
            if "return_lse" in kwargs:
                raise RuntimeError("not on this device")
            return sageattn(q, k, v)

        library("sageattn", sageattn_without)
        assert form(backends, "attention_sage", tensors(self.dtype)[0]) is None
