"""Every rule of the lowering table against eager torch: views, reductions, products, gathers, scatters."""

from __future__ import annotations

import math

import pytest
import torch

from onelaunch.frontend.lower import RULES
from tests.lowering.single import assert_close
from tests.lowering.single import assert_eager
from tests.lowering.single import refusal
from tests.lowering.single import run
from tests.lowering.test_pointwise import real
from tests.lowering.test_pointwise import truth
from tests.lowering.test_pointwise import whole

aten = torch.ops.aten
BF16, F16, F32, F64, I64, I32 = torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64, torch.int32
INF = math.inf
X = real(7, 1, 5)
Z = torch.tensor(0.7)
NORMAL = (real(9, low=0.5, high=1.5), real(9))
HALVES = [real(7, 9, dtype=d) for d in (BF16, F16)]
MASKED = real(6, 7).masked_fill(truth(6, 7), -INF).index_fill(0, torch.tensor([2]), -INF)
TIES = torch.tensor([[1.0, 3.0, 3.0], [math.nan, 1.0, math.nan], [-1.0, -1.0, -2.0], [INF, INF, 0.0]])
CACHE, SLOT = real(2, 3, 11, 5), torch.tensor([9])

# (operation, arguments[, keyword arguments])
CASES: list[tuple] = [
    # choice and conversion
    (aten.where.self, (truth(7, 1), real(5), real(7, 5))),
    (aten.where.self, (truth(7), whole(7), real(7))),
    (aten.where.ScalarOther, (truth(7), real(7, dtype=BF16), 0.1)),
    (aten.where.Scalar, (truth(7), 1.5, -INF)),
    (aten.masked_fill.Scalar, (real(7, 5), truth(5), -INF)),
    (aten.masked_fill.Tensor, (real(7, 5), truth(7, 1), torch.tensor(3))),
    *((aten._to_copy.default, (real(7, 5) * 9,), {"dtype": d}) for d in (BF16, F16, F64, I64, I32, torch.bool)),
    *((aten._to_copy.default, (whole(7, 5),), {"dtype": d}) for d in (BF16, F16, F64, torch.uint8, torch.bool)),
    (aten._to_copy.default, (truth(7),), {"dtype": F16}),
    (aten._to_copy.default, (torch.tensor([2**40 + 3, -1]),), {"dtype": I32}),
    (aten.to.dtype, (real(7), BF16)),
    (aten.copy.default, (real(7, 5), whole(5))),
    (aten.copy.default, (real(7, 5, dtype=BF16), Z)),
    # creation
    (aten.full.default, ([7, 3], 2.5)),
    (aten.full.default, ([], 7), {"dtype": I64}),
    (aten.full.default, ([3], True)),
    (aten.full.default, ([3], -INF), {"dtype": BF16}),
    (aten.full_like.default, (X, -1)),
    (aten.scalar_tensor.default, (0.1,), {"dtype": BF16}),
    (aten.new_full.default, (X, [4], 3)),
    *((op, ([3, 5],), {"dtype": I64}) for op in (aten.zeros.default, aten.ones.default)),
    *((op, (X,)) for op in (aten.zeros_like.default, aten.ones_like.default)),
    *((op, (X, [3])) for op in (aten.new_zeros.default, aten.new_ones.default)),
    (aten.arange.default, (7,)),
    (aten.arange.start, (-3, 4)),
    (aten.arange.start_step, (10, -5, -3)),
    (aten.arange.start_step, (0, 64, 2), {"dtype": F32}),
    (aten.arange.start_step, (0.1, 3.0, 0.1)),
    (aten.arange.start_step, (1, 2, 0.125), {"dtype": BF16}),
    # views
    (aten.view.default, (real(6, 35), [2, 3, 5, 7])),
    (aten.view.default, (real(4, 6), [3, 8])),
    (aten.view.default, (X, [1, 35, 1])),
    (aten.view.default, (torch.tensor([3.0]), [])),
    (aten._unsafe_view.default, (real(4, 6), [24])),
    (aten.reshape.default, (real(4, 6).t(), [8, 3])),
    (aten.view_copy.default, (real(4, 6), [2, -1])),
    (aten._reshape_alias.default, (real(4, 6), [2, 12], [12, 1])),
    (aten.flatten.using_ints, (real(2, 3, 4), 1)),
    (aten.unflatten.int, (real(2, 12), -1, [3, 4])),
    (aten.permute.default, (real(2, 3, 5), [2, 0, -2])),
    (aten.permute_copy.default, (real(2, 3, 5), [1, 0, 2])),
    (aten.transpose.int, (real(2, 3, 5), -1, 0)),
    (aten.t.default, (real(2, 3),)),
    (aten.t.default, (real(3),)),
    (aten.unsqueeze.default, (real(2, 3), -1)),
    (aten.unsqueeze.default, (Z, 0)),
    (aten.unsqueeze_copy.default, (real(2, 3), 1)),
    *((aten.squeeze.dim, (X, d)) for d in (1, -2, 0)),
    (aten.squeeze.default, (real(1, 7, 1),)),
    (aten.squeeze.dims, (real(1, 7, 1), [0, 2])),
    (aten.squeeze_copy.default, (real(1, 7, 1),)),
    (aten.expand_copy.default, (X, [2, -1, 4, 5])),
    (aten.expand_copy.default, (Z, [3])),
    (aten.expand.default, (X, [1, 7, 1, 5])),
    (aten.expand_copy.default, (real(7, 1), [7, 3])),
    (aten.broadcast_to.default, (real(1, 3), [1, 1, 3])),
    (aten.repeat.default, (real(2, 3), [2, 1, 3])),
    *((aten.slice.Tensor, (real(11, 3), 0, a, b, s))
      for a, b, s in ((2, 9, 3), (-4, -1, 1), (None, 5, 1), (-100, 100, 2), (3, 2**63 - 1, 1), (10, 11, 5))),
    (aten.slice.Tensor, (real(3, 11), -1, 1)),
    (aten.slice_copy.Tensor, (real(3, 11), 1, 2, 7, 2)),
    *((aten.select.int, (real(3, 5, 7), d, i)) for d, i in ((0, 2), (1, -1), (-1, -7))),
    (aten.select_copy.int, (real(3, 5), 1, 4)),
    (aten.split_with_sizes.default, (real(3, 12), [5, 1, 6], -1)),
    (aten.split_with_sizes_copy.default, (real(6, 2), [1, 5])),
    (aten.split.Tensor, (real(7, 2), 3)),
    (aten.split.Tensor, (real(2, 7), 2, -1)),
    (aten.split_copy.Tensor, (real(7, 2), 3)),
    (aten.unbind_copy.int, (real(3, 5),)),
    (aten.diagonal_copy.default, (real(3, 5),)),
    (aten.unsafe_split.Tensor, (real(7, 2), 3)),
    (aten.chunk.default, (real(2, 9), 2, 1)),
    (aten.unbind.int, (real(3, 5), -1)),
    (aten.cat.default, ([real(2, 3), real(2, 1), real(2, 7)], 1)),
    (aten.cat.default, ([real(2, 3), torch.zeros(0), whole(1, 3)],)),
    (aten.cat.default, ([torch.zeros(2, 0), real(2, 3)], -1)),
    (aten.cat.default, ([real(3), real(1)],)),
    (aten.concat.default, ([real(3, dtype=BF16), real(4, dtype=BF16)],)),
    (aten.constant_pad_nd.default, (real(3, 5), [1, 2])),
    (aten.constant_pad_nd.default, (real(3, 5), [0, 1, 2, 0], -1.5)),
    (aten.constant_pad_nd.default, (real(3, 5), [-1, 2, 1, -2], 7)),
    (aten.constant_pad_nd.default, (truth(5), [2, 0], True)),
    *((aten.diagonal.default, (real(3, 5, 4), o, a, b)) for o, a, b in ((0, 0, 1), (1, -1, 0), (-2, 1, 2))),
    (aten.flip.default, (real(3, 5, 2), [0, -1])),
    # gathers
    (aten.embedding.default, (real(11, 5), torch.tensor([[3, 0], [10, 7]]))),
    (aten.embedding.default, (real(11, 5, dtype=BF16), torch.tensor(4, dtype=I32), 0)),
    (aten.index_select.default, (real(3, 7), -1, torch.tensor([6, 0, 0, 2]))),
    (aten.index_select.default, (real(7), 0, torch.tensor([5], dtype=I32))),
    (aten.gather.default, (real(5, 7), 1, whole(4, 3, low=0, high=7))),
    (aten.gather.default, (real(5, 7), 0, whole(1, 7, low=0, high=5))),
    *((aten.index.Tensor, (real(5, 7, 3), i)) for i in (
        [torch.tensor([4, -1, 0])], [None, torch.tensor([[1, -7]])], [torch.tensor([0, 4]), torch.tensor([-1, 2])],
        [None, torch.tensor([3]), torch.tensor([[0], [2]])], [torch.tensor([1, 2]), None, torch.tensor([0, -1])],
        [torch.tensor(2)], [torch.tensor([[1], [3]]), torch.tensor([0, 5])],
    )),
    (aten._unsafe_index.Tensor, (real(5, 7), [None, torch.tensor([6, 1])])),
    # scatters
    (aten.index_put.default, (CACHE, [None, None, SLOT], real(2, 3, 1, 5))),
    (aten.index_put.default, (CACHE, [None, None, torch.tensor([-1])], real(2, 3, 1, 5))),
    (aten.index_put.default, (real(7), [torch.tensor([-2])], torch.tensor(9.0))),
    (aten.index_put.default, (real(7, 3), [torch.tensor([1]), torch.tensor([2])], real(1))),
    (aten.index_put.default, (real(7, 3), [None, torch.tensor(1)], real(7))),
    (aten.index_put.default, (real(7, 3, dtype=BF16), [torch.tensor([6])], real(1, 3, dtype=BF16))),
    (aten._unsafe_index_put.default, (real(7), [torch.tensor([1])], real(1))),
    (aten.index_copy.default, (CACHE, -2, SLOT, real(2, 3, 1, 5))),
    (aten.slice_scatter.default, (real(11, 3), real(3, 3), 0, 2, 9, 3)),
    (aten.slice_scatter.default, (real(3, 11), real(3, 4), 1, -4)),
    (aten.slice_scatter.default, (real(7), real(7))),
    (aten.select_scatter.default, (real(3, 5), real(3), 1, -1)),
    (aten.scatter.src, (real(3, 5), 1, torch.tensor([[4], [3]]), real(4, 5))),
    (aten.scatter.value, (real(3, 5), 0, torch.tensor([[2, 0, 1, 2, 0]]), 1.5)),
    # reductions
    *((op, args) for op in (aten.sum.dim_IntList, aten.mean.dim, aten.amax.default, aten.amin.default)
      for args in ((real(7, 9), [1]), (real(7, 9), [-2], True), (X, [0, 2]), (X, [1]), (real(3, 1009), [-1]), (Z, []))),
    *((op, args) for op in (aten.sum.dim_IntList, aten.mean.dim, aten.amax.default)
      for args in ((HALVES[0], [1]), (HALVES[1], [0], True))),
    *((op, (x,)) for op in (aten.sum.default, aten.prod.default) for x in (X, Z, whole(5), truth(9), whole(4).int())),
    (aten.mean.default, (X,)),
    (aten.sum.dim_IntList, (real(7, 9), None)),
    (aten.sum.dim_IntList, (real(7, dtype=BF16), [0]), {"dtype": F32}),
    (aten.prod.dim_int, (real(3, 5), 1, True)),
    (aten.amax.default, (TIES, [1])),
    (aten.amin.default, (whole(5, 3), [0])),
    *((op, (x,)) for op in (aten.any.default, aten.all.default) for x in (truth(9), real(3, 4).round(), TIES)),
    (aten.any.dim, (truth(3, 4), 1)),
    (aten.any.dims, (truth(3, 4), [0, 1], True)),
    (aten.all.dim, (truth(3, 4), -2, True)),
    (aten.argmax.default, (TIES, 1)),
    (aten.argmax.default, (TIES, 0, True)),
    (aten.argmax.default, (real(3, 1, 7),)),
    (aten.argmax.default, (Z,)),
    (aten.argmin.default, (TIES, -1)),
    (aten.argmin.default, (whole(13),)),
    (aten.max.dim, (TIES, 1)),
    (aten.max.dim, (real(1, 7), 0, True)),
    (aten.min.dim, (whole(5, 3), -1)),
    (aten.max.default, (real(3, 5),)),
    (aten.min.default, (TIES,)),
    (aten.max.other, (real(3, 5), real(5))),
    (aten.min.other, (real(3, 5), real(5))),
    *((aten.var.correction, (real(7, 9), d), {"correction": c, "keepdim": k})
      for d, c, k in (([1], 1, False), ([0], 0, True), (None, None, False), ([-1], 2, False), ([0, 1], 0.5, True))),
    (aten.var.correction, (real(7, 1), [1]), {"correction": 2}),
    (aten.var.default, (real(7, 9), False)),
    (aten.var.dim, (real(7, 9), [0], True, True)),
    (aten.var.dim, (real(7, 9), [0], False)),
    (aten.var_mean.correction, (real(7, 9), [1]), {"correction": 0, "keepdim": True}),
    *((aten.cumsum.default, (x, d)) for x, d in (
        (real(7, 5), 0), (real(7, 5), -1), (whole(3, 9), 1), (truth(9), 0), (Z, 0), (real(3, 1), 1))),
    (aten.cumsum.default, (real(5, dtype=BF16), 0), {"dtype": F32}),
    *((aten.linalg_vector_norm.default, (real(5, 7), o, [1], k))
      for o, k in ((2, True), (1, False), (INF, False), (-INF, True), (0, False), (3, False))),
    (aten.linalg_vector_norm.default, (real(5, 7),)),
    # softmax and norms
    *((op, (x, d, False)) for op in (aten._softmax.default, aten._log_softmax.default)
      for x, d in ((real(7, 9), -1), (real(3, 5, 7), 1), (MASKED, 1), (real(3, 1), 1), (Z, 0), (HALVES[0], 1))),
    (aten._softmax.default, (torch.tensor([[INF], [-INF], [math.nan]]), 1, False)),
    (aten.softmax.int, (HALVES[0], -1)),
    *((aten._safe_softmax.default, (x, -1)) for x in (real(7, 9), MASKED, TIES, torch.tensor([[-INF], [0.0]]))),
    (aten.native_layer_norm.default, (real(7, 9), [9], *NORMAL, 1e-5)),
    (aten.native_layer_norm.default, (real(2, 3, 9), [9], None, None, 1e-5)),
    (aten.native_layer_norm.default, (real(2, 3, 9), [3, 9], real(3, 9), None, 1e-6)),
    (aten.layer_norm.default, (real(7, 9), [9], *NORMAL, 1e-5)),
    (aten.layer_norm.default, (real(7, 9, dtype=BF16), [9], *(p.bfloat16() for p in NORMAL), 1e-5)),
    # products
    (aten.mm.default, (real(3, 7), real(7, 5))),
    (aten.mm.default, (real(3, 70), real(33, 70).t())),
    (aten.mm.default, (real(3, 70), real(70, 33))),
    (aten.mm.default, (real(3, 1), real(1, 5))),
    (aten.mm.default, (real(3, 70, dtype=BF16), real(70, 33, dtype=BF16))),
    (aten.mm.default, (real(70, 65, dtype=F64), real(65, 9, dtype=F64))),
    (aten.mm.default, (whole(20, 20, low=-(2**30), high=2**30), whole(20, 20, high=2**30))),
    (aten.bmm.default, (real(3, 5, 7), real(3, 7, 11))),
    (aten.bmm.default, (real(3, 5, 1), real(3, 1, 2))),
    (aten.addmm.default, (real(33), real(3, 70), real(70, 33))),
    (aten.addmm.default, (real(3, 1), real(3, 7), real(7, 33)), {"beta": 0.5, "alpha": -2}),
    (aten.addmm.default, (torch.full((5,), math.nan), real(3, 7), real(7, 5)), {"beta": 0}),
    (aten.baddbmm.default, (real(3, 1, 11), real(3, 5, 7), real(3, 7, 11)), {"alpha": 0.125, "beta": 2}),
    (aten.mv.default, (real(33, 70), real(70))),
    (aten.dot.default, (real(70), real(70).flip(0))),
    (aten.addmv.default, (real(33), real(33, 70), real(70)), {"beta": 0.5, "alpha": -2}),
    (aten.addmv.default, (torch.full((1,), math.nan), real(5, 1), real(1)), {"beta": 0}),
    # order
    (aten.sort.default, (real(3, 17),)),
    (aten.sort.default, (torch.tensor([[3, 1], [2, 1], [3, 0]]), 0, True)),
    (aten.sort.stable, (TIES,), {"stable": True, "dim": 1, "descending": True}),
    (aten.sort.stable, (TIES,), {"stable": True, "dim": 1}),
    (aten.sort.default, (Z,)),
    (aten.topk.default, (real(2, 60, 5), 4, 1)),
    (aten.topk.default, (real(5, 8, dtype=BF16), 2, -1, False)),
    (aten.topk.default, (torch.tensor([[1.0, math.nan, -INF, INF]]), 3)),
    # windows and groups
    (aten.convolution.default, (real(2, 6, 11), real(6, 1, 4), real(6), [1], [3], [1], False, [0], 6)),
    (aten.convolution.default, (real(1, 4, 9), real(6, 2, 3), None, [2], [0], [2], False, [0], 2)),
    (aten.convolution.default, (real(1, 4, 5, 7), real(3, 4, 1, 3), real(3), [1, 2], [0, 1], [1], False, [0], 1)),
    *((aten.native_group_norm.default, (real(2, 6, 5), w, b, 2, 6, 5, g, 1e-5))
      for w, b, g in ((real(6), real(6), 2), (None, None, 6), (real(6), None, 1))),
    (aten.native_group_norm.default, (real(2, 4, 3, 5), real(4), real(4), 2, 4, 15, 4, 1e-3)),
    # what accumulates
    (aten.index_put.default, (real(7), [torch.tensor([1, -6, 3])], real(3), True)),
    (aten.index_put.default, (whole(5, 3), [None, torch.tensor([[2, 0], [2, 2]])], whole(5, 2, 2), True)),
    (aten.index_put.default, (real(4, 3, 5), [torch.tensor([1, 1]), None, torch.tensor([4, 4])], real(2, 3), True)),
    (aten.scatter_add.default, (real(4, 5), 0, torch.tensor([[0, 3, 0], [0, 3, 1]]), real(3, 4))),
    *((aten.scatter_reduce.two, (real(4, 5), 1, torch.tensor([[0, 4, 0], [2, 2, 2]]), real(2, 3), r))
      for r in ("sum", "prod", "amax", "amin")),
    (aten.linear.default, (real(2, 3, 70), real(33, 70), real(33))),
    (aten.linear.default, (real(70, dtype=F16), real(33, 70, dtype=F16))),
]  # fmt: skip
# Uninitialised memory, whose values are nobody's; attention; caches in pages, in test_paged.py.
ELSEWHERE = {
    "empty", "empty_like", "new_empty", "empty_permuted", "empty_strided", "attend", "paged_attend", "paged_store",
}  # fmt: skip
NOT_ATEN = {"convert_element_type", "sum_dim_IntList", "movedim", "_conj"}  # overloads of other namespaces, or refused


def test_every_rule_has_a_case() -> None:
    tested = {op._schema.name.split("::")[1] for op, *_ in CASES}
    assert set(RULES) - tested == ELSEWHERE | NOT_ATEN


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}".removeprefix("aten."))
def test_rule(case: tuple) -> None:
    op, args, *kwargs = case
    named = kwargs[0] if kwargs else {}
    found, wanted = run(op, *args, **named), op(*args, **named)
    # Sums of many terms are rounded in another order than torch's.
    assert_close(found, list(wanted) if isinstance(wanted, tuple | list) else [wanted], scale=8)


def test_empty_tensors_of_torch_have_a_value() -> None:
    assert run(aten.empty.memory_format, [3], dtype=F32)[0].eq(0).all()
    assert run(aten.empty_like.default, X)[0].shape == X.shape
    assert run(aten.new_empty.default, X, [4])[0].shape == (4,)
    assert run(aten.empty_permuted.default, [3, 4], [1, 0])[0].stride() == (1, 3)
    assert run(aten.empty_strided.default, [3, 4], [1, 3])[0].stride() == (1, 3)


def test_arguments_in_any_layout() -> None:
    wide = real(9, 8)
    for x in (wide.t(), wide[:, ::2], wide[3], wide[:, :1].expand(9, 4), real(2, 3, 5).permute(1, 2, 0)):
        assert_eager(aten.mul.Tensor, x, x)


@pytest.mark.parametrize(("op", "args", "kwargs", "part"), [
    (aten.index_put.default, (real(2**20), [torch.tensor([1, 1])], real(2)), {"accumulate": True}, "2097152 places"),
    (aten.scatter_reduce.two, (real(3), 0, torch.tensor([0]), real(1), "mean"), {}, "reduce='mean'"),
    (aten.index_put.default, (real(7), [truth(7)], Z), {}, "bool mask"),
    (aten.index_put.default, (real(7), [torch.ones(7, dtype=torch.uint8)], Z), {}, "bool mask"),
    (aten.scatter.reduce, (real(3, 5), 0, torch.zeros(1, 5, dtype=I64), real(1, 5)), {"reduce": "add"}, "reduction"),
    (aten.view.dtype, (real(4), I32), {}, "bits"),
    (aten.sin.default, (torch.ones(3, dtype=torch.complex64),), {}, "complex64"),
    (aten.view_as_complex.default, (real(3, 2),), {}, "complex64"),
    (aten.sort.default, (real(257),), {}, "over 257 elements"),
    (aten.topk.default, (real(1009), 3), {}, "over 1009 elements"),
    (aten.round.decimals, (real(7),), {"decimals": 2}, "arguments"),
    (aten.slice.Tensor, (real(7), 0, 3, 3), {}, "without elements"),
    (aten.arange.start_step, (0.5, 4.5, 1), {"dtype": I64}, "arange"),
    (aten.convolution.default, (real(1, 2, 9), real(2, 3, 3), None, [1], [0], [1], True, [0], 1), {}, "transposed"),
    (aten.convolution.default, (real(1, 90, 9), real(3, 90, 3), None, [1], [0], [1], False, [0], 1), {}, "270 prod"),
])  # fmt: skip
def test_what_is_not_covered_is_refused_with_a_reason(op, args, kwargs, part) -> None:
    reason = refusal(op, *args, **kwargs)
    assert reason is not None
    assert part in reason
    assert "\n" not in reason


def test_the_last_of_stores_that_meet_wins() -> None:
    (found,) = run(aten.index_put.default, real(7), [torch.tensor([4, 1, 4, 4])], torch.arange(4.0))
    wanted = real(7)
    wanted[1], wanted[4] = 1, 3
    assert torch.equal(found, wanted)
