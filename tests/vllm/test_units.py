"""Parts of the integration by themselves: layouts of caches, kinds of batches, operators written out, settings."""

from __future__ import annotations

import types

import pytest
import torch

from onelaunch.errors import UnsupportedError
from onelaunch.integrations.vllm import layers
from onelaunch.integrations.vllm import settings
from onelaunch.integrations.vllm.fakes import Fakes
from onelaunch.integrations.vllm.layers import Layer
from onelaunch.integrations.vllm.native import native

LAYER = Layer("a", "a", heads=4, kv_heads=2, size=8, scale=1.0, window=0, softcap=0.0, updates=False)
N, P = 5, 4


@pytest.mark.parametrize("layout", ["beside", "beside, heads first", "before"])
def test_layouts(layout):
    """What is stored at a block and position is what keys and values give there, in the layouts of all versions."""
    memory = torch.zeros(N, P, 2, 16) if layout == "beside" else torch.zeros(N, 2, P, 16)
    cache = memory.transpose(1, 2) if layout == "beside" else memory  # logically [N, H, P, 2 D]
    if layout == "before":
        cache = torch.zeros(N, 2, P, 2, 8)  # 0.24: [N, 2, P, H, D]
    key, value = torch.randn(2, 2, 8), torch.randn(2, 2, 8)
    rows = layers.rows(cache, LAYER)
    rows[torch.tensor([3, 1]), torch.tensor([2, 0])] = layers.together(key, value, rows.dim())
    keys, values = layers.keys_and_values(rows, 8, rows.dim())
    assert keys.shape == values.shape == (N, P, 2, 8)
    for i, (block, place) in enumerate([(3, 2), (1, 0)]):
        assert torch.equal(keys[block, place], key[i])
        assert torch.equal(values[block, place], value[i])
    if layout == "before":
        assert torch.equal(cache[3, 0, 2], key[0])
        assert torch.equal(cache[1, 1, 0], value[1])
    else:
        assert torch.equal(cache[3, :, 2, :8], key[0])
        assert torch.equal(cache[1, :, 0, 8:], value[1])


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        (torch.zeros(N, P, 16), "a cache of shape"),
        (torch.zeros(N, 3, P, 16), "a cache of shape"),
        (torch.zeros(N, 2, 2, P, 16)[:, 0], "elements apart"),
    ],
)
def test_layouts_that_are_refused(cache, words):
    with pytest.raises(UnsupportedError, match=words):
        layers.rows(cache, LAYER)


def _kind(path):
    module, _, name = path.rpartition(".")
    return type(name, (), {"__module__": module, "forward_includes_kv_cache_update": False})


def _module(kind=layers.PLAIN_LAYER, backend="vllm.v1.attention.backends.flash_attn.FlashAttentionBackend", **changes):
    impl = types.SimpleNamespace(scale=0.5, sliding_window=(15, 0), logits_soft_cap=None, alibi_slopes=None, sinks=None)
    given = {
        "impl": impl, "attn_backend": _kind(backend), "attn_type": "decoder",
        "head_size": 8, "num_heads": 4, "num_kv_heads": 2, "sliding_window": None, "query_quant": None,
        "kv_sharing_target_layer_name": None,
    }  # fmt: skip
    made = _kind(kind)()
    made.__dict__.update({**given, **changes})
    return made


def test_layers():
    """FlashAttention counts the positions before the newest one."""
    assert layers.describe("x", _module()) == Layer("x", "x", 4, 2, 8, 0.5, 16, 0.0, updates=False)
    assert layers.describe("x", _module(kv_sharing_target_layer_name="y")).cache_of == "y"
    for changes, words in (
        ({"backend": "vllm.v1.attention.backends.cpu_attn.CPUAttentionBackend"}, "attention backend vllm.v1"),
        (
            {"kind": "vllm.model_executor.layers.attention.chunked_local_attention.ChunkedLocalAttention"},
            "attention layer",
        ),
        ({"impl": types.SimpleNamespace(chunk_lookback=1)}, "look-back"),
        ({"attn_type": "encoder_only"}, "accepted: decoder"),
        ({"head_size_v": 4}, "values of 4 elements"),
        ({"query_quant": object()}, "quantised queries"),
    ):
        with pytest.raises(UnsupportedError, match=words):
            layers.describe("x", _module(**changes))


@pytest.mark.parametrize("neox", [True, False])
def test_rotary_embedding(neox):
    """In place, heads of 8 of which 6 elements turn, against the definition by complex numbers."""
    positions = torch.tensor([0, 3, 7])
    angles = torch.randn(9, 3)
    cache = torch.cat([angles.cos(), angles.sin()], -1)
    query, key = torch.randn(3, 4 * 8), torch.randn(3, 2 * 8)
    wanted = []
    for x in (query, key):
        heads = x.view(3, -1, 8).clone()
        part = heads[..., :6]
        pairs = torch.stack([part[..., :3], part[..., 3:]], -1) if neox else part.reshape(*part.shape[:-1], 3, 2)
        turned = torch.view_as_complex(pairs.contiguous()) * torch.polar(
            torch.ones(3, 1, 3), angles[positions][:, None]
        )
        real = torch.view_as_real(turned)
        heads[..., :6] = torch.cat([real[..., 0], real[..., 1]], -1) if neox else real.flatten(-2)
        wanted.append(heads.flatten(1))
    native("_C::rotary_embedding")(positions, query, key, 8, cache, neox)
    torch.testing.assert_close([query, key], wanted)


def test_operators():
    out, x = torch.empty(3, 4), torch.randn(3, 8)
    gate = x[:, :4].double()
    for name, wanted in (
        ("silu", gate / (1 + (-gate).exp())),
        ("gelu", gate * (1 + torch.erf(gate / 2**0.5)) / 2),
        ("gelu_tanh", gate * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (gate + 0.044715 * gate**3))) / 2),
    ):
        native(f"_C::{name}_and_mul")(out, x)
        torch.testing.assert_close(out.double(), wanted * x[:, 4:], rtol=1e-5, atol=1e-6)
    assert native("aten::mm") is None
    assert native("_C::something_else") is None


def test_fakes_have_one_number_of_tokens():
    """For one token too, whatever tracing compared with the hint."""
    fakes = Fakes(32)
    a = fakes.tensor(torch.empty(0), (fakes.tokens, 4))
    b = fakes.tensor(torch.nn.Parameter(torch.empty(0)), (4, 4))
    with fakes.env.suppress_guards():
        made = a @ b
        assert a.shape[0] != 1
    assert made.shape[0] is not None
    assert isinstance(b, torch.nn.Parameter)
    found = fakes.env.var_to_range[fakes.tokens.node.expr]
    assert (int(found.lower), int(found.upper)) == (1, 32)
    assert fakes.blocks(7) is fakes.blocks(7)


def _config(**changes):
    parallel = types.SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1, decode_context_parallel_size=1)
    given = {
        "parallel_config": parallel, "lora_config": None, "speculative_config": None, "quant_config": None,
        "cache_config": types.SimpleNamespace(cache_dtype="auto"), "additional_config": {},
        "model_config": types.SimpleNamespace(is_encoder_decoder=False),
    }  # fmt: skip
    return types.SimpleNamespace(**{**given, **changes})


def test_reasons_for_stock(monkeypatch):
    monkeypatch.setattr(settings.importlib.metadata, "version", lambda name: "0.32.0")
    assert settings.reason_for_stock(_config()) is None
    two = types.SimpleNamespace(tensor_parallel_size=2)
    for changes, words in (
        ({"lora_config": object()}, "LoRA"),
        ({"kv_transfer_config": object()}, "KV connector"),
        ({"speculative_config": object()}, "speculative"),
        ({"parallel_config": two}, "tensor_parallel_size 2; accepted: 1"),
        ({"cache_config": types.SimpleNamespace(cache_dtype="fp8")}, "a cache of fp8"),
        ({"model_config": types.SimpleNamespace(is_encoder_decoder=True)}, "encoder"),
    ):
        assert words in settings.reason_for_stock(_config(**changes))
    for name in ("TORCH_COMPILE_DISABLE", "VLLM_BATCH_INVARIANT"):
        with monkeypatch.context() as m:
            m.setenv(name, "1")
            assert name in settings.reason_for_stock(_config())
    monkeypatch.setattr(settings.importlib.metadata, "version", lambda name: "0.40.1")
    assert "0.40.1 is not among the tested versions" in settings.reason_for_stock(_config())


def test_options():
    config = _config(additional_config={"onelaunch": {"seam": "graph", "stock": "eager", "workers": 2}})
    assert settings.options(config) == {"workers": 2}
    assert settings.seam(config) == "graph"
    assert [settings.rows(_on(kind)) for kind in ("cpu", "cuda")] == [32, settings.ROWS_ON_GPU]
    assert settings.rows(_on("cuda", {"onelaunch": {"rows": 16}})) == 16
    for wrong in (0, 33, "all", True):
        with pytest.raises(ValueError, match=rf"'rows'\] is {wrong!r}; accepted: 1 to 32"):
            settings.rows(_on("cuda", {"onelaunch": {"rows": wrong}}))
    with pytest.raises(ValueError, match="accepted: model, graph"):
        settings.seam(_config(additional_config={"onelaunch": {"seam": "x"}}))
    assert not settings.is_marked(config)
    settings.mark(config)
    assert settings.is_marked(config)
    assert settings.options(config) == {"workers": 2}
    with pytest.raises(ValueError, match="a dictionary of options"):
        settings.given(_config(additional_config={"onelaunch": 3}))


def test_captured_sizes():
    config = pytest.importorskip("vllm.config")
    modes = config.CUDAGraphMode
    captured = [1, 2, 4, 8, 16, 24]
    for kind, mode, extra, sizes in (
        ("cuda", modes.FULL_DECODE_ONLY, {}, (1, 2, 4, 8)),
        ("cuda", modes.FULL_AND_PIECEWISE, {"onelaunch": {"rows": 2}}, (1, 2)),
        ("cuda", modes.PIECEWISE, {}, ()),
        ("cuda", modes.FULL, {}, ()),
        ("cpu", modes.FULL_DECODE_ONLY, {}, ()),
    ):
        made = _on(kind, extra)
        made.compilation_config = config.CompilationConfig(cudagraph_mode=mode, cudagraph_capture_sizes=captured)
        assert settings.sizes(made) == sizes


def test_a_broken_plugin_leaves_vllm_alone(monkeypatch, caplog):
    from onelaunch.integrations.vllm import plugin

    def broken():
        raise RuntimeError("some version moved something")

    monkeypatch.setattr(plugin, "_register", broken)
    plugin.register()
    assert "the plugin is not active" in caplog.text


def _batch(monkeypatch, metadata, slots=None, mode="NONE"):
    context = pytest.importorskip("vllm.forward_context")
    made = types.SimpleNamespace(
        attn_metadata=metadata, slot_mapping=slots or {}, cudagraph_runtime_mode=types.SimpleNamespace(name=mode),
        no_compile_layers={"a": types.SimpleNamespace(kv_cache=torch.zeros(N, 2, P, 16))},
    )  # fmt: skip
    monkeypatch.setattr(context, "is_forward_context_available", lambda: True)
    monkeypatch.setattr(context, "get_forward_context", lambda: made)


def _metadata(longest=1, tokens=3, **changes):
    given = {
        "max_query_len": longest, "block_table": torch.zeros(tokens, 2, dtype=torch.int32), "causal": True,
        "slot_mapping": torch.arange(tokens), "seq_lens": torch.ones(tokens, dtype=torch.int32),
    }  # fmt: skip
    return types.SimpleNamespace(**{**given, **changes})


def test_profiling_is_stock(monkeypatch):
    from onelaunch.integrations.vllm import batch

    for metadata, tokens, words in (
        (None, 3, "profiling"),
        ([{}, {}], 3, "micro-batches"),
        ({"a": _metadata(longest=7)}, 7, "prefill"),
        ({"a": object()}, 3, "unknown metadata"),
        ({"a": _metadata(tokens=40)}, 40, "more than 32 sequences"),
        ({"a": _metadata(causal=False)}, 3, "not causal"),
        ({"a": _metadata(rswa_prefix_lens=torch.ones(3))}, 3, "attention with rswa_prefix_lens"),
        ({"a": _metadata()}, 5, "more tokens than sequences"),
        ({"b": _metadata()}, 3, "a layer without metadata"),
    ):
        _batch(monkeypatch, metadata)
        with pytest.raises(batch.NotDecodeError, match=words):
            batch.read(("a",), tokens, 32)


def test_pieces_are_stock(monkeypatch):
    """vLLM captures pieces of its own graph with a batch that looks like decode, and replays them for any batch."""
    from onelaunch.integrations.vllm import batch

    _batch(monkeypatch, {"a": _metadata()}, mode="PIECEWISE")
    with pytest.raises(batch.NotDecodeError, match="piecewise"):
        batch.read(("a",), 3, 32)


def test_batches(monkeypatch):
    """Fewer tokens than rows of the metadata, and slots from the context where it has them."""
    from onelaunch.integrations.vllm import batch

    slots = torch.tensor([9, 8, 7, -1])
    _batch(monkeypatch, {"a": _metadata(tokens=4)}, {"a": slots})
    found = batch.read(("a",), 3, 32)
    assert found.tokens == 3
    assert found.groups[0].slots.tolist() == [9, 8, 7]
    assert found.groups[0].table.shape == (3, 2)
    assert found.of_layer == (0,)


def _toy(function):
    """Dynamo's graph of a stack with attention, as vLLM's operators have it."""
    library = torch.library.Library("vllm", "FRAGMENT")
    for schema in (
        "unified_kv_cache_update(Tensor key, Tensor value, str layer_name) -> Tensor",
        "unified_attention_with_output(Tensor query, Tensor key, Tensor value, Tensor(a!) output, str layer_name)"
        " -> ()",
    ):
        library.define(schema)
    library.impl("unified_kv_cache_update", lambda k, v, n: k.new_empty(0), "CompositeExplicitAutograd")
    library.impl("unified_attention_with_output", lambda q, k, v, o, n: None, "CompositeExplicitAutograd")
    found = []

    def keep(gm, inputs):
        found.append((gm, inputs))
        return gm.forward

    ids = torch.arange(6)
    torch._dynamo.mark_dynamic(ids, 0)
    torch._dynamo.reset()
    torch.compile(function, backend=keep, fullgraph=True)(ids, torch.randn(20, 32))
    return library, *found[0]


def test_writes_in_place_survive():
    """A graph of Dynamo's says everything in the order of the program; nothing of it may be dropped."""
    if hasattr(torch.ops.vllm, "unified_attention_with_output"):
        pytest.skip("vLLM's own operators are loaded")
    from onelaunch.integrations.vllm import rewrite

    def stack(ids, table):
        x = table[ids]
        x[:, :3] += 1.0
        x.mul_(2.0)
        x[0] = x[0] - 3.0
        heads = x.view(-1, 4, 8)
        out = torch.empty(ids.shape[0], 4, 8)
        torch.ops.vllm.unified_kv_cache_update(heads[:, :2].contiguous(), heads[:, 2:].contiguous(), "a")
        torch.ops.vllm.unified_attention_with_output(heads, heads[:, :2], heads[:, 2:], out, "a")
        return out.view(-1, 32) + x

    library, gm, inputs = _toy(stack)
    found = rewrite.inspect(gm, inputs)
    assert (set(found.names.values()), found.updated) == ({"a"}, {"a"})
    made = rewrite.rewrite(gm, found, {"a": LAYER}, {"a": rewrite.Place(0, 0)}, [4])
    ids, weights = torch.tensor([3, 5, 7]), torch.randn(20, 32)
    given = {"l_ids_": ids, "l_table_": weights}
    taken = [given[gm.graph.find_nodes(op="placeholder")[i].target.lower()] for i in found.kept]
    cache = torch.zeros(N, P, 2, 16)
    table, slots = torch.tensor([[1], [2], [3]], dtype=torch.int32), torch.tensor([4, 8, 12])
    (result,) = made(*taken, cache, table, slots, torch.ones(3, dtype=torch.int32))
    x = weights[ids].clone()
    x[:, :3] += 1
    x *= 2
    x[0] -= 3
    values = x.view(3, 4, 8)[:, 2:].repeat_interleave(2, 1)  # of one position, whose weight is one
    torch.testing.assert_close(result, values.flatten(1) + x)
    assert torch.equal(cache[1:4, 0, :, :8], x.view(3, 4, 8)[:, :2])
    del library


def _on(kind, extra=None):
    config = _config(**({"additional_config": extra} if extra else {}))
    config.device_config = types.SimpleNamespace(device_type=kind)
    return config
