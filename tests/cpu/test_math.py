"""math.h against double precision: the errors it states, its special values, and that it vectorises."""

from __future__ import annotations

import ctypes
import re
import subprocess

import pytest
import torch
from torch.nn import functional

# Largest error in ulp of the exact result; the headers' comments state these.
ULP = {
    "exp": (torch.exp, 1.1), "expm1": (torch.expm1, 1.5), "exp2": (torch.exp2, 1.1), "log": (torch.log, 1.0),
    "log1p": (torch.log1p, 2.0), "log2": (torch.log2, 2.5), "log10": (torch.log10, 2.5), "tanh": (torch.tanh, 2.0),
    "sigmoid": (torch.sigmoid, 2.5), "silu": (functional.silu, 3.0), "erf": (torch.erf, 1.5),
    "sqrt": (torch.sqrt, 0.5), "rsqrt": (torch.rsqrt, 1.5),
    "softplus": (lambda x: torch.logaddexp(x, torch.zeros_like(x)), 3.0),
}  # fmt: skip
SPECIAL = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, -1e-45, 3.4e38, -3.4e38, 1.0, -1.0]


@pytest.fixture(scope="module")
def lib(native) -> ctypes.CDLL:
    return native.library("math.cpp")


def call(lib, name, x):
    y = torch.empty_like(x)
    getattr(lib, f"run_{name}")(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()),
                                ctypes.c_int64(x.numel()))  # fmt: skip
    return y


def samples() -> torch.Tensor:
    """All exponents and signs with spread mantissas, and a dense sweep of where the functions bend."""
    bits = torch.arange(-(2**31), 2**31, 1021, dtype=torch.int64).to(torch.int32).view(torch.float32)
    dense = torch.linspace(-110, 95, 1_500_001)
    close = torch.linspace(-6, 6, 1_500_001)
    return torch.cat([bits[bits.isfinite()], dense, close])


def ulp(exact: torch.Tensor) -> torch.Tensor:
    """The distance between fp32 numbers around `exact` (double), subnormals included."""
    return torch.exp2(torch.clamp(torch.floor(torch.log2(exact.abs())), min=-126.0) - 23)


def errors(name, x, y):
    exact = ULP[name][0](x.double())
    keep = exact.isfinite() & (exact.abs() < 3.4028235e38)
    if name in ("sigmoid", "silu"):
        keep &= x > -88.0
    error = ((y.double() - exact).abs() / ulp(exact))[keep]
    return error[error.isfinite()]


@pytest.mark.parametrize("name", ULP)
def test_stated_error(lib, name):
    x = samples()
    worst = errors(name, x, call(lib, name, x)).max().item()
    print(f"{name}: {worst:.3f} ulp")
    assert worst <= ULP[name][1]


@pytest.mark.parametrize("name", ULP)
def test_special_values(lib, name):
    x = torch.tensor(SPECIAL)
    exact = ULP[name][0](x.double()).float()
    ours = call(lib, name, x)
    assert torch.equal(ours.isnan(), exact.isnan()), (ours, exact)
    assert torch.equal(ours.isinf(), exact.isinf()), (ours, exact)
    keep = exact == 0
    assert (ours[keep] == 0).all()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(lib, approximate):
    x = samples()
    x = x[x.abs() < 1e30]
    ours = call(lib, {"none": "gelu_erf", "tanh": "gelu_tanh"}[approximate], x).double()
    exact = functional.gelu(x.double(), approximate=approximate)
    assert ((ours - exact).abs() <= 2e-7 * x.double().abs() + 1e-44).all()


def test_every_loop_vectorises(native):
    """The compiler's own report: as many vectorised loops as there are functions."""
    source = native.folder / "math.cpp"
    command = [native.compiler, *native.flags, f"-I{native.include}", "-c", str(source), "-o", "/dev/null"]
    if "clang" in native.version:
        command.append("-Rpass=loop-vectorize")
    else:
        command.append("-fopt-info-vec-optimized")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loops = set(re.findall(r"math\.cpp:(\d+:\d+):.*(?:loop vectorized|vectorized loop)", done.stderr))
    assert len(loops) == source.read_text().count("EACH(") - 1, done.stderr
