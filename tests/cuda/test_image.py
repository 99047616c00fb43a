"""What is stored of a program for a GPU: it comes back as it was, and without any task being read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onelaunch.errors import CompilerError
from onelaunch.frontend.options import Options
from onelaunch.graph.graph_text import parse_graph
from onelaunch.graph.graph_text import print_graph
from onelaunch.program import parse
from onelaunch.runtime import make
from onelaunch.targets.cuda import device
from onelaunch.targets.cuda import records
from onelaunch.targets.cuda import target as targets
from onelaunch.targets.cuda.architecture import TESTED
from onelaunch.targets.cuda.emit import generate
from onelaunch.targets.cuda.image import SIZES
from onelaunch.targets.cuda.image import TABLES
from onelaunch.targets.cuda.image import Image
from onelaunch.targets.cuda.image import image_of
from onelaunch.targets.cuda.image import read_image
from tests import programs as P
from tests.transform import test_forward
from tests.transform.graphs import graph_of


def same(a, b) -> bool:
    whole = dataclasses.replace(b, tables=a.tables)
    return a == whole and a.tables.dtype == b.tables.dtype and np.array_equal(a.tables, b.tables)


@pytest.mark.parametrize("name", ["mlp", "attention", "embed"])
def test_it_comes_back(name, tmp_path):
    program = getattr(P, name)()
    source = generate(program)
    image = image_of(source, records.Tables(program, source.shape, source.flow))
    image.write(tmp_path)
    assert same(image, read_image(tmp_path))


DAMAGED = [
    (SIZES, b"["), (SIZES, b'{"shape": {}}'), (SIZES, b'{"shape": {"x": 1}, "places": [], "starts": {}}'),
    (TABLES, b"no array"), (TABLES, None),
]  # fmt: skip


@pytest.mark.parametrize(("file", "data"), DAMAGED)
def test_what_is_none_is_refused(file, data, tmp_path):
    program = P.mlp()
    source = generate(program)
    image_of(source, records.Tables(program, source.shape, source.flow)).write(tmp_path)
    (tmp_path / file).unlink() if data is None else (tmp_path / file).write_bytes(data)
    with pytest.raises((OSError, ValueError)):
        read_image(tmp_path)


@pytest.fixture
def gpu(monkeypatch):
    """As if there were one; nothing is launched."""
    monkeypatch.setattr(device, "reason_against", lambda index=None: None)
    monkeypatch.setattr(device, "processors", lambda index=None: TESTED.processors)
    monkeypatch.setattr(device, "architecture_of", lambda index=None: TESTED)


@pytest.mark.usefixtures("gpu", "nvrtc")
@pytest.mark.parametrize("launch", ["one", "graph"])
def test_a_cached_start_reads_no_task(launch, tmp_path, monkeypatch):
    made_of = []

    class Loaded:
        def __init__(self, *parts):
            made_of.append(parts)

    monkeypatch.setattr(targets, "Loaded", Loaded)
    monkeypatch.setattr(targets, "LoadedOps", Loaded)
    text = print_graph(graph_of(test_forward.step, *test_forward.inputs(), weights=(1, 2, 3)))
    options = Options(target="cuda", launch=launch, cache_dir=Path(tmp_path) / "cache")
    first = make.Maker(options).begin("first", text, lambda: parse_graph(text))()
    read, own = [], parse._Reader._task
    monkeypatch.setattr(parse._Reader, "_task", lambda self, m: read.append(m[0]) or own(self, m))
    again = make.Maker(options).begin("again", text, lambda: parse_graph(text))()
    assert again.cache_hit and not first.cache_hit
    assert (not read) == (launch == "one"), "what runs as a launch an op reads off its tasks which"
    for one in (first, again):
        one.executable._loader(0)
    (program, *rest), (later, *others) = made_of
    assert dataclasses.replace(later, name="first") == program and len(rest) == len(others)
    for old, new in zip(rest, others, strict=True):
        assert same(old, new) if isinstance(old, Image) else old == new
    assert len(read) == len(program.tasks), "the comparison has read them"


@pytest.mark.usefixtures("gpu", "nvrtc")
def test_an_entry_without_an_image_is_built_anew(tmp_path, caplog):
    text = print_graph(graph_of(test_forward.step, *test_forward.inputs(), weights=(1, 2, 3)))
    options = Options(target="cuda", cache_dir=Path(tmp_path) / "cache")
    made = make.Maker(options).begin("first", text, lambda: parse_graph(text))()
    key = made.folder.name
    maker = make.Maker(options)
    files = {f.name: f.read_bytes() for f in made.folder.iterdir() if f.name not in (SIZES, "manifest.json")}
    maker.cache.drop(key)
    maker.cache.store(key, lambda folder: [(folder / n).write_bytes(data) for n, data in files.items()])
    again = maker.begin("again", text, lambda: parse_graph(text))()
    assert not again.cache_hit and "is built anew" in caplog.text and (again.folder / SIZES).is_file()


def test_without_a_gpu_nothing_is_loaded(tmp_path):
    if device.reason_against() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(CompilerError, match="target 'cuda' is not available"):
        targets.CudaTarget().load(P.mlp(), tmp_path)
