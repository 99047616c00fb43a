"""A stand-in for the runtime: it runs a segment's module in torch, so that the frontend is tested by itself."""

import contextlib
import dataclasses

import pytest
import torch

from onelaunch.frontend import backend as backend_module
from onelaunch.frontend import compiler
from onelaunch.frontend.lower import reason_against
from onelaunch.frontend.options import parse
from onelaunch.runtime.compiled import compile_segment


class FakeSegment:
    """Runs the module it was given; checks what the runtime may rely on."""

    def __init__(self, module, constants, options, name):
        self.module, self.constants, self.name = module, constants, name
        self.programs, self.launches, self.compile_seconds, self.cache_hit = [], 0, 0.0, False
        names = [n.name for n in module.graph.nodes if n.op == "placeholder"]
        assert constants <= set(names)
        assert all("val" in n.meta for n in module.graph.nodes if n.op == "placeholder")
        updates = [n for n in module.graph.nodes if n.target is torch.ops.aten.copy_.default]
        assert all(n.args[0].op == "placeholder" for n in updates)
        assert len({n.args[0] for n in updates}) == len(updates)
        order = {n: i for i, n in enumerate(module.graph.nodes)}
        for update in updates:
            assert not [u for u in update.args[0].users if order[u] > order[update] and u.op != "output"]
        output = next(n for n in module.graph.nodes if n.op == "output")
        assert isinstance(output.args[0], tuple)
        assert all(o.op == "call_function" and o not in updates for o in output.args[0])
        self.written = [names.index(u.args[0].name) for u in updates]
        self.results = [o.meta["val"] for o in output.args[0]]

    def __call__(self, *args):
        self.launches += 1
        written = {args[i].untyped_storage().data_ptr() for i in self.written}
        others = {a.untyped_storage().data_ptr() for i, a in self.tensors(args) if i not in self.written}
        assert not written & others  # the runtime refuses to update memory that another argument shares
        made = torch.fx.Interpreter(self.module).run(*args)
        fresh = []
        for value, meta in zip(made, self.results, strict=True):
            assert tuple(value.shape) == tuple(value.shape) and value.dtype is meta.dtype
            new = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
            fresh.append(new.copy_(value))
        return tuple(fresh)

    def save(self):
        return None

    @staticmethod
    def tensors(args):
        return [(i, a) for i, a in enumerate(args) if isinstance(a, torch.Tensor)]


@dataclasses.dataclass
class Harness:
    """A backend over stand-ins, or over the programs of a target, and what it compiled."""

    target: str = ""  # empty: stand-ins

    refused: tuple = ()
    options: dict = dataclasses.field(default_factory=dict)
    compilations: list = dataclasses.field(default_factory=list)
    segments: list = dataclasses.field(default_factory=list)

    def refuse(self, node):
        name = str(node.target)
        if any(name.startswith(f"aten.{r}") for r in self.refused):
            return "refused by the test"
        return reason_against(node) if self.target else None

    def make(self, module, constants, options, name):
        segment = fake = FakeSegment(module, constants, options, name)
        if self.target:
            segment = compile_segment(module, constants, options, name)
            segment.module, segment.constants, segment.results = module, constants, fake.results
        self.segments.append(segment)
        return segment

    def backend(self, gm, inputs, **kwargs):
        options = {"target": self.target, "cache": False} if self.target else {}
        done = compiler.compile_graph(gm, inputs, parse(options | self.options), self.make, self.refuse)
        self.compilations.append(done)
        return done.run

    def compile(self, f, **kwargs):
        return torch.compile(f, backend=self.backend, **kwargs)

    @property
    def fallbacks(self):
        return [f for c in self.compilations for f in c.record.fallbacks]

    @property
    def launches(self):
        return sum(s.launches for s in self.segments)

    @property
    def torch_parts(self):
        return sum(c.record.torch_parts for c in self.compilations)


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


@pytest.fixture
def harness(request):
    with torch.no_grad():
        yield Harness(getattr(request, "param", ""))


@pytest.fixture
def named_backend():
    """The backend under its name, also where the package is not installed."""
    with contextlib.suppress(AssertionError):
        torch._dynamo.register_backend(backend_module.backend, name="onelaunch")
    return "onelaunch"
