"""What is refused runs in torch, in order, and everything around it in as few launches as possible."""

import copy

import pytest
import torch

from onelaunch.errors import UnsupportedError

pytestmark = pytest.mark.parametrize("harness", ["", "reference"], indirect=True, ids=["torch", "reference"])


def run(harness, f, *args, calls=2, **kwargs):
    eager_args, compiled_args = copy.deepcopy(args), copy.deepcopy(args)
    step = harness.compile(f, **kwargs)
    for _ in range(calls):
        torch.testing.assert_close(step(*compiled_args), f(*eager_args))
        torch.testing.assert_close(compiled_args, eager_args)


X = torch.randn(4, 6)


def test_refused_in_the_middle(harness):
    harness.refused = ("sort",)
    run(harness, lambda x: torch.sort(x.sin() * 2)[0].cos() + 1, X)
    assert harness.launches == 4 and harness.torch_parts == 1
    (fallback,) = harness.fallbacks
    assert fallback.op == "aten.sort.default" and fallback.reason == "refused by the test"
    assert "test_partition.py" in fallback.where and "torch.sort" in fallback.where


def test_refused_first_and_last(harness):
    harness.refused = ("sort",)
    run(harness, lambda x: torch.sort(torch.sort(x)[0].sin() * 2)[0], X)
    assert harness.launches == 2 and harness.torch_parts == 2


def test_independent_refusals_share_a_part(harness):
    harness.refused = ("sort", "cumsum")
    run(harness, lambda x, y: (torch.sort(x.sin())[0] + torch.cumsum(y.cos(), 0)).exp(), X, X + 1)
    assert harness.launches == 4 and harness.torch_parts == 1 and len(harness.fallbacks) == 2


def test_a_chain_of_refusals(harness):
    harness.refused = ("sort",)

    def f(x):
        for _ in range(4):
            x = torch.sort(x.sin() * 2)[0]
        return x.cos()

    run(harness, f, X)
    assert harness.launches == 2 * 5 and harness.torch_parts == 4


def test_views_are_repeated_not_launched(harness):
    harness.refused = ("sort",)
    run(harness, lambda x: torch.sort(x.t().reshape(3, 8)[1:])[0].view(-1).unsqueeze(0), X)
    assert harness.launches == 0 and harness.torch_parts >= 1


def test_positions_alone_are_not_worth_a_launch(harness):
    harness.refused = ("sort", "gather")

    def f(x):
        index = torch.arange(6) + 1 - 1
        return torch.sort(x.sin())[0].gather(1, index.expand(4, 6))

    run(harness, f, X)
    assert harness.launches == 2 and harness.torch_parts == 1


def test_update_read_by_torch_afterwards(harness):
    harness.refused = ("cumsum",)

    def f(cache, position, x):
        cache.index_copy_(1, position, x.sin())
        return torch.cumsum(cache, 1).cos()

    run(harness, f, torch.zeros(2, 8, 3), torch.tensor([2]), torch.randn(2, 1, 3))
    first = harness.segments[0]
    assert len(first.results) == 0  # torch reads the cache that the launch has updated in place


def test_update_after_torch_has_read_the_old_value(harness):
    harness.refused = ("cumsum",)

    def f(state, x):
        old = torch.cumsum(state, 0)
        state.copy_(x.sin())
        return (old * 2).cos(), torch.cumsum(x.exp(), 0)

    run(harness, f, X, X + 1)


def test_update_after_torch_has_read_the_old_value_through_a_view(harness):
    harness.refused = ("cumsum", "view", "slice")

    def f(state, x):
        old = state.view(-1)[2:]
        state.copy_(x.sin() + torch.cumsum(x, 0))
        return old.clone() * 2, torch.cumsum(state.exp(), 0)

    def g(state, x):
        old = torch.cumsum(state.view(-1)[2:] * 2, 0)
        state.mul_(x.sin())
        return old, state.sum()

    def h(state, x):
        old = state.view(-1)[2:]
        state.copy_(torch.cumsum(state, 0))
        return old.exp() * 2, torch.cumsum(x.sin(), 0)

    for function in (f, g, h):
        run(harness, function, X, X + 1)


def test_several_updates(harness):
    harness.refused = ("cumsum",)

    def f(a, b, c, x):
        a.add_(1)
        b.mul_(torch.cumsum(a, 0))
        c.copy_(b.sin() + a)
        return (a + b + c + x).exp() * torch.cumsum(c, 0)

    run(harness, f, X, X + 1, X + 2, X + 3, calls=3)


def test_refused_views_of_tuples(harness):
    harness.refused = ("split_with_sizes",)

    def f(x):
        a, b, c = torch.split(x.sin(), [1, 2, 3], 1)
        return a.cos() + 1, b.exp(), c * 2

    run(harness, f, X)


def test_several_results_of_one_node(harness):
    harness.refused = ("cumsum",)

    def f(x):
        value, index = x.sin().max(1)
        return torch.cumsum(value, 0) + value, index + torch.cumsum(index, 0), index

    run(harness, f, X)


def test_outputs_shared_between_parts(harness):
    harness.refused = ("cumsum",)

    def f(x):
        y = x.sin() * 2
        z = torch.cumsum(y, 0)
        return y, y.view(-1), z, z.t(), (z.cos() + y).view(-1), x.shape[0]

    run(harness, f, X)
    run(harness, f, X, dynamic=True)


def test_symbolic_sizes_cross(harness):
    harness.refused = ("cumsum",)
    step = harness.compile(lambda x, n: torch.cumsum(x.sin()[: n * 2], 0).view(-1, n).exp() * n, dynamic=True)
    for n in (2, 3, 5):
        x = torch.randn(4 * n, n)
        torch.testing.assert_close(step(x, n), torch.cumsum(x.sin()[: n * 2], 0).view(-1, n).exp() * n)
    assert harness.segments and harness.torch_parts


@pytest.mark.filterwarnings("ignore")
def test_data_dependent_sizes_run_in_torch(harness):
    with torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True):
        harness.refused = ("_local_scalar_dense", "nonzero", "index")
        run(harness, lambda x: x.exp() * (x.sum().item() + 1), X)
        run(harness, lambda x: x[x > 0].clone(), X)


def test_random_numbers_are_torchs(harness):
    step = harness.compile(lambda x: torch.rand_like(x.sin()) + x.cos())
    torch.manual_seed(3)
    got = step(X)
    torch.manual_seed(3)
    torch.testing.assert_close(got, torch.rand_like(X) + X.cos())
    assert "random" in harness.fallbacks[0].reason


def test_refusal_can_be_an_error(harness):
    harness.refused, harness.options = ("sort",), {"fallback": "error"}
    with pytest.raises(Exception, match=r"aten\.sort.*refused by the test.*test_partition\.py") as caught:
        harness.compile(lambda x: torch.sort(x.sin())[0])(X)
    assert isinstance(getattr(caught.value, "inner_exception", caught.value), UnsupportedError)


def test_a_part_that_the_compiler_refuses_runs_in_torch(harness, monkeypatch):
    def refuse(*args):
        raise UnsupportedError("too odd")

    monkeypatch.setattr(harness, "make", refuse)
    run(harness, lambda x: (x.sin() * 2).view(-1), X)
    assert harness.fallbacks[0].reason == "too odd"
    harness.options = {"fallback": "error"}
    with pytest.raises(Exception, match="too odd"):
        harness.compile(lambda x: x.sin() * 3)(X)


def test_module_path_of_a_refusal(harness):
    class Inner(torch.nn.Module):
        def forward(self, x):
            return torch.sort(x.sin())[0]

    harness.refused = ("sort",)
    run(harness, torch.nn.Sequential(torch.nn.Linear(6, 6), Inner()), X)
    assert harness.fallbacks[0].module == "1"
