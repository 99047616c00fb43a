"""The public face: names, lazy imports, modes and options as users pass them."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import onelaunch
from onelaunch.frontend import compiler

ROOT = Path(onelaunch.__file__).parents[1]


def test_import_is_light():
    code = (
        "import sys, onelaunch; onelaunch.__version__; "
        "print(sorted(m for m in ('torch', 'transformers', 'vllm', 'numpy', 'sympy') if m in sys.modules), "
        "len([m for m in sys.modules if m.startswith('onelaunch')]))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert made.stdout.split() == ["[]", "1"]


def test_the_backend_initialises_no_device():
    code = (
        "import sys, torch, onelaunch; onelaunch.backend; onelaunch.explain; "
        "print(torch.cuda.is_initialized(), [m for m in ('transformers', 'vllm') if m in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert made.stdout.split() == ["False", "[]"]


def test_names():
    assert set(onelaunch.__all__) <= set(dir(onelaunch))
    for name in onelaunch.__all__:
        assert getattr(onelaunch, name) is not None
    importlib.import_module("onelaunch.check")  # must not hide the function of the same name
    assert callable(onelaunch.check)
    with pytest.raises(AttributeError, match=r"onelaunch.*has no attribute 'nothing'"):
        onelaunch.nothing  # noqa: B018


def test_entry_points():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == onelaunch.__version__
    names = project["entry-points"]["torch_dynamo_backends"]
    assert names == dict.fromkeys(("onelaunch", "mirage"), "onelaunch.frontend.backend:backend")


@pytest.fixture
def faked(harness, monkeypatch):
    monkeypatch.setattr(compiler, "_runtime", lambda: harness.make)
    monkeypatch.setattr(compiler, "_lowering_table", lambda: harness.refuse)
    return harness


@pytest.mark.parametrize("by_name", [True, False])
def test_compile(faked, named_backend, by_name):
    backend = named_backend if by_name else onelaunch.backend
    step = torch.compile(lambda x: x + 1, backend=backend, options={"cache": False, "workers": 2})
    assert step(torch.zeros(2)).tolist() == [1, 1]
    assert faked.launches == 1


def test_guard_filter_and_other_arguments(faked):
    options = {"cache": False, "guard_filter_fn": lambda guards: [True for _ in guards]}
    step = torch.compile(lambda x: x + 1, backend=onelaunch.backend, options=options)
    assert step(torch.zeros(2)).tolist() == [1, 1]
    gm = torch.fx.symbolic_trace(lambda x: (x * 2,))
    run = onelaunch.backend(gm, [torch.ones(1)], mode="max-autotune", options={"cache": False}, anything=3)
    assert run(torch.ones(1))[0] == 2


def test_wrong_options(named_backend):
    with pytest.raises(Exception, match="unknown option 'worker'; accepted: target, workers"):
        torch.compile(lambda x: x + 1, backend=named_backend, options={"worker": 2})(torch.zeros(2))


def test_other_devices_stay_in_torch(harness):
    step = harness.compile(lambda x: x + 1)
    assert step(torch.zeros(2, device="meta")).device.type == "meta"
    assert "meta" in harness.fallbacks[0].reason and "accepts tensors on: cpu" in harness.fallbacks[0].reason


def test_training_mode_stays_in_torch(harness):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    torch.manual_seed(5)
    got = harness.compile(model)(torch.ones(2, 4))
    torch.manual_seed(5)
    torch.testing.assert_close(got, model(torch.ones(2, 4)))
    (fallback,) = harness.fallbacks
    assert "model.eval()" in fallback.reason and fallback.module == "1"
    harness.compile(model.eval())(torch.ones(2, 4))
    assert harness.launches == 1


def test_gradients_can_be_an_error(harness):
    harness.options = {"fallback": "error"}
    with torch.enable_grad(), pytest.raises(Exception, match="cannot be lowered: graph: gradients are recorded"):
        harness.compile(torch.nn.Linear(3, 3))(torch.ones(2, 3))


@pytest.mark.parametrize("rows", [32, 33])
@pytest.mark.parametrize("dynamic", [True, False])
def test_many_rows_stay_in_torch(harness, rows, dynamic):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.weight = torch.nn.Linear(3, 4), torch.nn.Parameter(torch.randn(4, 5))

        def forward(self, x):
            return torch.addmm(self.weight[0], self.linear(x) @ self.weight, self.weight.T @ self.weight)

    model, x = Model(), torch.randn(rows, 3)
    torch.testing.assert_close(harness.compile(model, dynamic=dynamic)(x), model(x))
    assert bool(harness.fallbacks) is (rows > 32)
