"""Segments from ATen modules to results: buckets, the disk cache, saving and loading."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from onelaunch import transform
from onelaunch.errors import CallError
from onelaunch.errors import CompilerError
from onelaunch.errors import ProgramFormatError
from onelaunch.frontend import stats
from onelaunch.frontend.backend import backend
from onelaunch.frontend.options import Options
from onelaunch.program.cache import MANIFEST
from onelaunch.program.file import load
from onelaunch.program.program import Program
from onelaunch.runtime import apart
from onelaunch.runtime import cache
from onelaunch.runtime import compiled as runtime_compiled
from onelaunch.runtime import make
from onelaunch.runtime.compiled import CompiledSegment
from onelaunch.runtime.compiled import compile_segment
from onelaunch.runtime.compiled import load_segment
from onelaunch.runtime.make import CERTIFICATE
from onelaunch.runtime.make import PROGRAM
from onelaunch.targets.reference.executable import ReferenceExecutable
from onelaunch.targets.reference.target import ReferenceTarget

aten = torch.ops.aten


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(target="reference", cache_dir=tmp_path / "cache")


def module(f: Callable[..., Any], *args: Any) -> torch.fx.GraphModule:
    """``f`` as the frontend hands it over."""
    traced = make_fx(f, tracing_mode="fake")(*args)
    for node in traced.graph.nodes:
        if node.op == "output" and isinstance(node.args[0], torch.fx.Node):
            node.args = ((node.args[0],),)
    return traced


def step(x: torch.Tensor, w: torch.Tensor, counter: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = aten.mm(x, aten.permute(w, [1, 0]))
    aten.copy_(counter, aten.add(counter, 1))
    return (aten.sigmoid(y),)


def inputs(rows: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(rows)
    return [torch.randn(rows, 8), torch.randn(6, 8), torch.zeros(1, dtype=torch.int64)]


def expected(args: list[torch.Tensor]) -> torch.Tensor:
    return torch.sigmoid(args[0] @ args[1].T)


def compiled(options: Options) -> CompiledSegment:
    made = module(step, *inputs())
    names = [n.name for n in made.graph.nodes if n.op == "placeholder"]
    return compile_segment(made, {names[1]}, options, "first")


def test_a_static_segment(options: Options):
    segment, args = compiled(options), inputs()
    for count in (1, 2):
        (y,) = segment(*args)
        torch.testing.assert_close(y, expected(args))
        assert segment.launches == count and args[2].item() == count
    (program,) = segment.programs
    assert program.name == "first" and not segment.cache_hit
    assert set(segment.seconds) == {"lower", "transform", "check", "build"}
    assert segment.compile_seconds == sum(segment.seconds.values())


def test_the_second_time_comes_from_disk(options: Options):
    compiled(options)
    again, args = compiled(options), inputs()
    assert again.cache_hit and set(again.seconds) == {"lower", "load", "build"}
    torch.testing.assert_close(again(*args)[0], expected(args))
    assert not compiled(Options(target="reference", cache=False)).cache_hit
    other = Options(target="reference", cache_dir=options.cache_dir, workers=2)
    assert not compiled(other).cache_hit


@pytest.mark.parametrize("why", ["never checked", "another program's", "unreadable"])
def test_a_stored_program_without_a_certificate_is_checked(options: Options, why: str):
    compiled(dataclasses.replace(options, check=why != "never checked"))
    store = cache.of(options)
    assert store is not None
    ((_, _, key),) = store.entries()
    files = {f.name: f.read_bytes() for f in (store.folder / key).iterdir()}
    assert (CERTIFICATE in files) == (why != "never checked")
    if why != "never checked":
        wrong = {"another program's": files[CERTIFICATE].replace(b'"program": "', b'"program": "0'), "unreadable": b"["}
        files[CERTIFICATE] = wrong[why]
        store.drop(key)
        store.store(key, lambda folder: [(folder / n).write_bytes(b) for n, b in files.items() if n != MANIFEST])
    again = compiled(options)
    assert again.cache_hit and set(again.seconds) == {"lower", "load", "check", "build"}


@pytest.mark.parametrize("damage", ["truncate", "tamper", "reseal"])
def test_damaged_entries_are_built_anew(options: Options, damage: str, caplog: pytest.LogCaptureFixture):
    compiled(options)
    store = cache.of(options)
    assert store is not None
    ((_, _, key),) = store.entries()
    file = store.folder / key / PROGRAM
    text = file.read_text()
    if damage == "reseal":  # with a manifest that agrees: found by reading it, or by the check
        bad = text.replace("strides [8, 1]", "strides [8, 2]")
        store.drop(key)
        store.store(key, lambda folder: (folder / PROGRAM).write_text(bad))
    else:
        file.write_text(text[: len(text) // 2] if damage == "truncate" else text.replace("mm", "mn", 1) + " ")
    with caplog.at_level(logging.WARNING):
        segment, args = compiled(options), inputs()
    if damage != "reseal":
        assert "is built anew" in caplog.text and not segment.cache_hit
        torch.testing.assert_close(segment(*args)[0], expected(args))
        assert compiled(options).cache_hit
    else:
        with pytest.raises(CallError, match="has strides"):
            segment(*args)


def test_saved_segments_are_loaded(options: Options):
    saved = compiled(options).save()
    assert saved is not None
    segment, args = load_segment(saved, options, "second"), inputs()
    assert segment.cache_hit and "lower" not in segment.seconds
    assert [p.name for p in segment.programs] == ["second"]
    torch.testing.assert_close(segment(*args)[0], expected(args))
    store = cache.of(options)
    assert store is not None
    store.drop(store.entries()[0][2])
    segment = load_segment(saved, options, "third")  # compiled again, from the graph it holds
    assert not segment.cache_hit
    torch.testing.assert_close(segment(*args)[0], expected(args))


def test_what_is_no_saved_segment_is_refused(options: Options):
    saved = compiled(options).save()
    assert saved is not None
    for broken in ({}, saved | {"version": 99}, saved | {"signature": {}}, saved | {"symbols": [["s", 1]]}):
        with pytest.raises(ProgramFormatError, match="stored"):
            load_segment(broken, options, "s")
    other = load_segment(saved | {"graph": saved["graph"].replace("sigmoid", "tanh")}, options, "s")
    assert not other.cache_hit  # another graph is another entry


def test_sizes_with_programs_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On a machine that gains by fixed sizes: 3 is served by the program of up to 4, 4 by its own; a stored range is
    loaded as it was.
    """

    class Fixed(make.Maker):
        def __init__(self, options: Options) -> None:
            super().__init__(options)
            self.machine = dataclasses.replace(self.machine, fixed=True)

    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x @ w.T)

    monkeypatch.setattr(runtime_compiled, "Maker", Fixed)
    torch._dynamo.reset()
    settings = {"target": "reference", "cache_dir": tmp_path / "cache", "fallback": "error"}
    fast = torch.compile(f, backend=functools.partial(backend, options=settings))
    with torch.no_grad():
        for rows in (3, 4, 3):
            x, w, _ = inputs(rows)
            torch._dynamo.mark_dynamic(x, 0)
            torch.testing.assert_close(fast(x, w), f(x, w))
    (segment,) = stats.records()[-1].live
    assert isinstance(segment, CompiledSegment)
    sizes = [p.name.rpartition("@")[2] for p in segment.programs]
    assert len(sizes) == 2 and sizes[0].endswith("-4") and sizes[1] == "4"
    saved = segment.save()
    assert saved is not None
    loaded = load_segment(saved, segment.maker.options, "second")
    assert list(loaded._bindings) == list(segment._bindings)[:1] and loaded.cache_hit


@pytest.mark.parametrize("works", [True, False])
def test_other_sizes_are_made_side_by_side(works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each by a process of its own, if that works, and begun before the first is ended; one that cannot be made says so
    when it is called.
    """
    steps: list[str] = []
    here: list[str] = []
    compile_here = transform.compile_graph
    monkeypatch.setattr(transform, "compile_graph", lambda *given: here.append("") or compile_here(*given))
    if not works:
        monkeypatch.setattr(apart, "get_executable", lambda: "/nonexistent/python")

    class Slow(ReferenceTarget):
        def begin(self, program: Program) -> Callable[[Path], ReferenceExecutable]:
            size = program.name.partition("@")[2].partition(",")[0]
            steps.append(f"begin {size}")
            if size == "2" and steps.count("begin 2") == 1:
                raise CompilerError("no")

            def end(folder: Path) -> ReferenceExecutable:
                steps.append(f"end {size}")
                return super(Slow, self).build(program, folder)

            return end

    monkeypatch.setattr(make, "select", lambda *named: Slow())
    made = make_fx(lambda x, w: torch.sigmoid(x @ w.T), tracing_mode="symbolic")(*inputs(3)[:2])
    for node in made.graph.nodes:
        if node.op == "output":
            node.args = (node.args,)
    names = [n.name for n in made.graph.nodes if n.op == "placeholder"]
    segment = compile_segment(made, {names[1]}, Options(target="reference", cache_dir=tmp_path / "cache"), "first")
    rows = next(
        s.name for s, source in zip(segment.symbols, segment.signature.sources, strict=True) if source.position == 0
    )
    segment.extend(rows, [8, -1, 3, 2, 16])  # -1: no size at all
    assert steps == ["begin 4", "end 4", "begin 8", "begin 2", "begin 16", "end 8", "end 16"]
    assert len(here) == (1 if works else 4)
    assert len(segment.programs) == 3
    with torch.no_grad():
        for count in (16, 8, 2):
            x, w, _ = inputs(count)
            torch.testing.assert_close(segment(x, w)[0], torch.sigmoid(x @ w.T))
    assert steps[7:] == ["begin 2", "end 2"]


def test_programs_by_bucket(tmp_path: Path):
    """Through torch.compile, which knows what varies: rows 3 and 4 share a program, as do 7 and 8."""

    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x @ w.T) * x.shape[0]

    torch._dynamo.reset()
    settings = {"target": "reference", "cache_dir": tmp_path / "cache", "fallback": "error"}
    fast = torch.compile(f, backend=functools.partial(backend, options=settings))
    seen = []
    with torch.no_grad():
        for rows in (3, 4, 2, 7, 8, 3):
            x, w, _ = inputs(rows)
            torch._dynamo.mark_dynamic(x, 0)
            torch.testing.assert_close(fast(x, w), f(x, w))
            (segment,) = stats.records()[-1].live
            assert isinstance(segment, CompiledSegment)
            seen.append(len(segment.programs))
    assert seen == [1, 1, 2, 3, 3, 3]
    assert [p.name.partition("@")[2] for p in segment.programs] == ["4", "2", "8"]


def test_calls_that_cannot_be_served(options: Options):
    segment, args = compiled(options), inputs()
    with pytest.raises(CallError, match="first got 2 arguments; accepted: 3"):
        segment(*args[:2])
    with pytest.raises(CallError, match="requires grad; accepted: calls under"):
        segment(args[0].requires_grad_(), *args[1:])
    with torch.no_grad():
        torch.testing.assert_close(segment(*args)[0], expected(args))


def test_json_entries(options: Options, caplog: pytest.LogCaptureFixture):
    key = "0" * 64
    assert cache.read(key, options) is None
    cache.write(key, {"a": [1, None]}, options)
    cache.write(key, {"a": [2, None]}, options)
    assert cache.read(key, options) == {"a": [2, None]}
    assert cache.read(key, Options(cache=False)) is None
    store = cache.of(options)
    assert store is not None
    (store.folder / key / "plan.json").write_text("{}")
    assert cache.read(key, options) is None and "is built anew" in caplog.text


def test_settings_tell_apart_what_compiles_differently(options: Options):
    same = Options(target="reference", cache_dir=Path("elsewhere"), dump_dir=Path("x"))
    assert cache.settings(options) == cache.settings(same)
    assert cache.settings(options) != cache.settings(Options(target="reference", workers=3))
    assert cache.settings(options) != cache.settings(Options(target="reference", fallback="error"))


def test_every_level_is_dumped_where_one_asks_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    compiled(Options(target="reference", cache=False, dump_dir=tmp_path / "dump"))
    assert {f.name for f in (tmp_path / "dump" / "first").iterdir()} >= {
        "graph.txt", "program.txt", "ops.svg", "queues.svg",
    }  # fmt: skip
    assert load(tmp_path / "dump" / "first" / "program.txt").name == "first"
    (tmp_path / "file").write_text("")
    segment = compiled(Options(target="reference", cache=False, dump_dir=tmp_path / "file"))
    assert "nothing is dumped to" in caplog.text
    torch.testing.assert_close(segment(*inputs())[0], expected(inputs()))


def test_without_a_cache_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not even by a process that is killed: what is built goes as soon as it is loaded."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    segment = compiled(Options(target="reference", cache=False))
    assert not list(tmp_path.iterdir())
    torch.testing.assert_close(segment(*inputs())[0], expected(inputs()))

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("onelaunch.targets.reference.target.ReferenceTarget.build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiled(Options(target="reference", cache=False))
    assert not list(tmp_path.iterdir())
