"""The key of the cache tells apart whatever compiles differently, and nothing else."""

import operator

import pytest
import torch

from onelaunch.frontend.fingerprint import FingerprintError
from onelaunch.frontend.fingerprint import fingerprint
from onelaunch.frontend.fingerprint import source_hash


def key(f, *args, dynamic=None, settings=()):
    """The fingerprint of the graph that Dynamo makes of ``f``."""
    found = []

    def backend(gm, inputs):
        found.append(fingerprint(gm, inputs, settings))
        return gm

    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(f, backend=backend, dynamic=dynamic)(*args)
    assert len(found) == 1
    return found[0]


X = torch.randn(2, 3)


def test_equal_graphs_have_equal_keys():
    model = torch.nn.Linear(3, 4)
    assert key(model, X) == key(torch.nn.Linear(3, 4), X + 1)
    assert len(key(model, X)) == 64 and len(source_hash()) == 64


def test_differences():
    linear = torch.nn.Linear(3, 3)
    keys = [
        key(lambda x: x + 1, X),
        key(lambda x: x + 1.0, X),
        key(lambda x: x + 2, X),
        key(lambda x: x * 2, X),
        key(lambda x: torch.sum(x, 1), X),
        key(lambda x: torch.sum(x, 1, keepdim=True), X),
        key(lambda x: x + 1, X.double()),
        key(lambda x: x + 1, X.t().contiguous()),
        key(lambda x: x + 1, torch.randn(3, 2).t()),
        key(lambda x: x + 1, X, dynamic=True),
        key(lambda x: x + 1, X, settings=("reference",)),
        key(lambda x: x + 1, linear.weight),
        key(lambda x: x + 1, linear.weight.detach()),
        key(lambda x: x.to(torch.float64), X),
        key(lambda x: x[..., :2], X),
        key(lambda x: x[..., 1:], X),
        key(lambda x: x + torch.tensor(1.0), X),
        key(lambda x: x + torch.tensor([1.0, 2.0, 3.0]), X),
        key(lambda x: x + torch.tensor([1.0, 2.0, 4.0]), X),
        key(lambda x: torch.nn.functional.gelu(x), X),
        key(lambda x: torch.nn.functional.gelu(x, approximate="tanh"), X),
    ]
    assert len(set(keys)) == len(keys)


def test_grad_mode_counts():
    found = []

    def backend(gm, inputs):
        found.append(fingerprint(gm, inputs, ()))
        return gm

    for mode in (torch.no_grad(), torch.enable_grad()):
        with mode:
            torch.compile(lambda x: x + 1, backend=backend)(X)
    assert len(set(found)) == 2


def test_symbolic_sizes_count_by_structure():
    def f(x):
        return x * 2

    assert key(f, torch.randn(4, 3), dynamic=True) == key(f, torch.randn(7, 5), dynamic=True)
    assert key(f, torch.randn(4, 3), dynamic=True) != key(f, torch.randn(4, 4), dynamic=True)
    assert key(f, torch.randn(4, 3), dynamic=True) != key(f, torch.randn(40, 3), dynamic=True)


def graph(target, *args):
    g = torch.fx.Graph()
    x = g.placeholder("x")
    x.meta["example_value"] = X
    g.output((g.call_function(target, (x, *args)),))
    return torch.fx.GraphModule(torch.nn.Module(), g)


def test_known_functions():
    for target in (operator.add, torch.add, torch.Tensor.add, torch.ops.aten.add.Tensor, torch._C._nn.gelu):
        assert fingerprint(graph(target, 1), [X], ()) == fingerprint(graph(target, 1), [X], ())


@torch.library.custom_op("onelaunch_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Odd:
    pass


@pytest.mark.parametrize(
    ("target", "args"),
    [(torch.ops.onelaunch_test.twice.default, ()), (lambda x: x, ()), (pytest.skip, ()), (operator.add, (Odd(),))],
)
def test_what_cannot_be_told_raises(target, args):
    g = graph(operator.neg)
    node = next(n for n in g.graph.nodes if n.op == "call_function")
    node.target = target
    object.__setattr__(node, "_args", (node.args[0], *args))
    with pytest.raises(FingerprintError):
        fingerprint(g, [X], ())


def test_inputs_that_share_memory_raise():
    base = torch.randn(6)
    with pytest.raises(Exception, match="shares memory"):
        key(lambda x, y: x + y, base[:3], base[3:])
