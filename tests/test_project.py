"""What pyproject.toml, constraints.txt and the Makefile promise about packaging."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonical(name): version for name, version in found.items()}


def closure(requirements: list[str]) -> set[str]:
    """The names of what these requirements install on this machine, theirs included."""
    found: set[str] = set()
    done: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonical(requirement.name)
        found.add(name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) in done:
                continue
            done.add((name, wanted))
            with contextlib.suppress(metadata.PackageNotFoundError):  # not installed here
                waiting += [(Requirement(text), wanted) for text in metadata.requires(name) or []]
    return found


of_the_makefile = pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv", reason="not the environment that the Makefile makes"
)


@of_the_makefile
def test_everything_that_is_installed_is_pinned():
    extras = PROJECT["optional-dependencies"]
    requirements = PROJECT["dependencies"] + extras["models"] + extras["cli"] + extras["dev"]
    assert closure(requirements) - set(pins()) == {"onelaunch"}, "add what is missing to constraints.txt"


@of_the_makefile
def test_kernels_are_really_compiled_there():
    """Or the tests that compile them would be skipped unseen."""
    from onelaunch.targets.cuda import compiler

    assert "NVRTC" in compiler.version()


def test_the_core_needs_torch_and_numpy_alone():
    assert {Requirement(text).name for text in PROJECT["dependencies"]} == {"torch", "numpy"}


def test_no_extra_moves_torch():
    for name, requirements in PROJECT["optional-dependencies"].items():
        assert not [text for text in requirements if re.match(r"torch\b", text)], name


def test_both_backend_names_lead_to_the_backend():
    from onelaunch.frontend.backend import backend

    points = {
        p.name: p for p in metadata.entry_points(group="torch_dynamo_backends") if p.name in ("onelaunch", "mirage")
    }
    if not points:
        pytest.skip("the package is not installed here")
    assert {name: point.load() for name, point in points.items()} == {"onelaunch": backend, "mirage": backend}


def test_device_headers_and_type_marker_are_packaged():
    """Every file of the package that is not Python is matched by the package data, or a wheel would lack it."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["onelaunch"]
    package = ROOT / "onelaunch"
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    others = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others - packaged == set()
    assert package / "py.typed" in packaged


def test_importing_the_package_is_light():
    code = "import sys, onelaunch; print(sorted({'torch', 'transformers', 'numpy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
