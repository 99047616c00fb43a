"""Captured functions compute what eager computes, whatever their inputs and outputs share."""

import copy

import pytest
import torch

pytestmark = pytest.mark.parametrize("harness", ["", "reference"], indirect=True, ids=["torch", "reference"])


def check(harness, f, *args, calls=2, exact=True, **kwargs):
    """Run ``f`` eagerly and compiled on equal copies; results, aliasing of results and inputs must agree."""
    eager_args, compiled_args = copy.deepcopy(args), copy.deepcopy(args)
    step = harness.compile(f, **kwargs)
    for _ in range(calls):
        expected, got = f(*eager_args), step(*compiled_args)
        same(expected, got)
        for a, b in zip(eager_args, compiled_args, strict=True):
            same(a, b)
        assert shared(expected, eager_args) == shared(got, compiled_args)
    return step


def same(expected, got):
    assert type(expected) is type(got)
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(got, expected)
        assert got.stride() == expected.stride()
    elif isinstance(expected, tuple | list):
        assert len(expected) == len(got)
        for e, g in zip(expected, got, strict=True):
            same(e, g)
    else:
        assert expected == got


def shared(outputs, inputs):
    """Which of the tensors share memory, by position."""
    flat = [*(outputs if isinstance(outputs, tuple) else (outputs,)), *inputs]
    first: dict[int, int] = {}
    return [
        first.setdefault(t.untyped_storage().data_ptr(), i) for i, t in enumerate(flat) if isinstance(t, torch.Tensor)
    ]


X = torch.arange(6.0).view(2, 3)


def test_pointwise_is_one_launch(harness):
    check(harness, lambda x, y: torch.relu(x * y + 1), X, X.flip(0))
    assert harness.launches == 2 and not harness.fallbacks and harness.torch_parts == 0
    assert harness.compilations[0].run is harness.segments[0]  # nothing of ours between Dynamo and the launch


@pytest.mark.parametrize("dynamic", [True, None, False])
def test_sizes_may_change(harness, dynamic):
    step = check(harness, lambda x: (x.transpose(0, 1) + 1, x.shape[0]), X, dynamic=dynamic)
    for rows in (3, 4, 7):
        x = torch.randn(rows, 3)
        got, count = step(x)
        torch.testing.assert_close(got, x.transpose(0, 1) + 1)
        assert count == rows
    assert len(harness.compilations) == {True: 1, None: 2, False: 4}[dynamic]


def test_outputs_of_every_kind(harness):
    check(harness, lambda x: (x + 1, None, 5, 2.5, "word", [x * 2, {"k": x - 1}]["__len__" == ""]), X)
    assert not harness.fallbacks


def test_one_output_twice(harness):
    def f(x):
        y = x * 2
        return y, y

    check(harness, f, X)


def test_outputs_that_are_views_of_each_other(harness):
    def f(x):
        y = x * 2
        return y, y.view(-1), y[1], y.t()

    check(harness, f, X)
    assert harness.launches == 2 and harness.torch_parts == 0 and len(harness.segments[0].results) == 1


def test_views_alone(harness):
    check(harness, lambda x: x.view(-1)[1:], X)
    assert harness.launches == 0


def test_an_output_that_is_a_view_of_an_input(harness):
    check(harness, lambda x: (x.view(-1), x + 1, x), X)
    assert harness.compilations[0].record.wrapped
    assert harness.launches == 2


def test_in_place_on_an_input(harness):
    def f(x, counter):
        counter.add_(1)
        x.mul_(2)
        return x.sum() + counter

    check(harness, f, X, torch.tensor(3), calls=3)
    assert harness.launches == 3 and harness.compilations[0].record.wrapped is None


def test_in_place_and_returned(harness):
    check(harness, lambda x: x.add_(1), X)
    check(harness, lambda x: x.add_(1).view(-1), X)


def test_copied_value_returned_apart(harness):
    def f(x):
        new = x + 1
        x.copy_(new)
        return new

    check(harness, f, X)


def test_autograd_hears_of_updates(harness):
    weight, state = torch.ones(3, requires_grad=True), torch.ones(3)
    with torch.enable_grad():
        product = (weight * state).sum()
    harness.compile(lambda s: s.mul_(2).sum())(state)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_metadata_change(harness):
    def f(x):
        x.t_()
        return x + 1

    check(harness, f, X, calls=1)


def test_cache_update(harness):
    def f(cache, position, x):
        cache.index_copy_(1, position, x)
        position.add_(1)
        return cache.sum(1)

    check(harness, f, torch.zeros(2, 8, 3), torch.tensor([2]), torch.ones(2, 1, 3), calls=3)
    assert harness.launches == 3 and not harness.fallbacks


def test_overlapping_inputs(harness):
    def f(x, y):
        x.add_(1)
        return y + 1

    base, other = torch.arange(6.0), torch.arange(6.0)
    step = harness.compile(f)
    for _ in range(2):
        torch.testing.assert_close(step(base[:4], base[2:]), f(other[:4], other[2:]))
        torch.testing.assert_close(base, other)
        torch.testing.assert_close(step(base, base), f(other, other))
        torch.testing.assert_close(base, other)


def test_inputs_in_any_layout(harness):
    def f(x):
        return x * 2 + x.sum()

    for x in (
        X.t(),
        X[:, 1:],
        torch.tensor(3.0),
        torch.randn(4, 1).expand(4, 5),
        torch.randn(2, 3, 4).permute(2, 0, 1),
    ):
        check(harness, f, x)


def test_constants_of_the_graph(harness):
    check(harness, lambda x: (x * torch.tensor([1.0, 2.0, 3.0]), torch.tensor(4.0) * x), X)
    assert harness.segments[0].constants


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_dtypes(harness, dtype):
    x = torch.tensor([[1, 0], [2, 3]]).to(dtype)
    check(harness, lambda x: torch.where(x > 0, x, x + x), x)


def test_keyword_arguments_and_defaults(harness):
    def f(x, *, scale=2.0, shift=None):
        return x * scale if shift is None else x * scale + shift

    step = harness.compile(f)
    for kwargs in ({}, {"scale": 3.0}, {"shift": X}):
        torch.testing.assert_close(step(X, **kwargs), f(X, **kwargs))


def test_integers_are_not_baked_in(harness):
    step = harness.compile(lambda x, n: x[:, :n] * n, dynamic=True)
    for n in (1, 2, 3, 2):
        torch.testing.assert_close(step(X, n), X[:, :n] * n)


def test_inference_mode(harness):
    with torch.inference_mode():
        check(harness, lambda x: (x + 1, x.sum()), torch.randn(3, 4))


def test_modules_bind_their_parameters_at_each_call(harness):
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.GELU(), torch.nn.Linear(5, 2)).eval()
    step = harness.compile(model)
    torch.testing.assert_close(step(X), model(X))
    assert len(harness.segments[0].constants) == 4
    for p in model.parameters():
        p.data = torch.randn_like(p)
    torch.testing.assert_close(step(X), model(X))


def test_a_written_parameter_is_no_constant(harness):
    linear = torch.nn.Linear(3, 3)

    def f(x):
        linear.bias.add_(1)
        return linear(x)

    step = harness.compile(f)
    twin = copy.deepcopy(linear)
    twin.bias.add_(1)
    torch.testing.assert_close(step(X), twin(X))
    assert len(harness.segments[0].constants) == 1


def test_gradients_stay_in_torch(harness):
    model = torch.nn.Linear(3, 3)
    with torch.enable_grad():
        harness.compile(model)(X).sum().backward()
    assert model.weight.grad is not None
    assert "torch.no_grad" in harness.fallbacks[0].reason


def test_no_grad_inside(harness):
    model = torch.nn.Linear(3, 3)

    def f(x):
        with torch.no_grad():
            return model(x) + 1

    with torch.enable_grad():
        got = harness.compile(f)(X)
        torch.testing.assert_close(got, f(X))
    assert not got.requires_grad and harness.launches == 1


def test_graph_breaks(harness):
    def f(x):
        y = x + 1
        if y.sum() > 0:
            return y * 2
        return y - 1

    check(harness, f, X)
    assert len(harness.compilations) == 2
