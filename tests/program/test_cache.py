"""The disk cache: finds what was stored, never what was altered, and never fails because of the disk."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onelaunch.program import cache as module
from onelaunch.program.cache import MANIFEST
from onelaunch.program.cache import Cache
from onelaunch.program.cache import default_folder
from onelaunch.program.cache import key
from onelaunch.program.cache import open_cache

KEY = key("a program", "its options")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    opened = open_cache(tmp_path / "cache")
    assert opened is not None
    return opened


@pytest.fixture(autouse=True)
def fresh_warnings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_warned", set())


def files(folder: Path) -> None:
    (folder / "program.txt").write_text("one\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "code.so").write_bytes(bytes(100))


def test_keys_depend_on_every_part_and_on_where_it_ends():
    keys = {key("a", "b"), key("ab"), key("a"), key("a", ""), key("", "a"), key(), key("b", "a")}
    assert len(keys) == 7 and all(len(k) == 64 for k in keys)


def test_stored_entries_are_found(cache: Cache):
    assert cache.find(KEY) is None
    entry = cache.store(KEY, files)
    assert entry == cache.find(KEY) and entry is not None
    assert (entry / "program.txt").read_text() == "one\n"
    assert [p.name for p in cache.folder.iterdir()] == [KEY]
    assert entry.stat().st_mode & 0o777 == 0o700 and cache.folder.stat().st_mode & 0o777 == 0o700


def test_the_first_of_two_writers_stays(cache: Cache):
    def slow(folder: Path) -> None:
        cache.store(KEY, files)
        (folder / "program.txt").write_text("two\n")

    entry = cache.store(KEY, slow)
    assert entry is not None and (entry / "program.txt").read_text() == "one\n"
    assert cache.find(KEY) == entry and [p.name for p in cache.folder.iterdir()] == [KEY]


def test_nothing_is_left_of_a_write_that_fails(cache: Cache):
    def failing(folder: Path) -> None:
        files(folder)
        raise KeyError("compiler")

    with pytest.raises(KeyError, match="compiler"):
        cache.store(KEY, failing)
    assert not list(cache.folder.iterdir())


def truncate(entry: Path) -> None:
    os.truncate(entry / "sub" / "code.so", 50)


def alter(entry: Path) -> None:
    (entry / "program.txt").write_text("two\n")


def remove(entry: Path) -> None:
    (entry / "program.txt").unlink()


def add(entry: Path) -> None:
    (entry / "extra.so").write_text("")


def link(entry: Path) -> None:
    (entry / "program.txt").rename(entry.parent.parent / "elsewhere")
    (entry / "program.txt").symlink_to(entry.parent.parent / "elsewhere")


def link_folder(entry: Path) -> None:
    (entry / "sub").rename(entry.parent.parent / "sub")
    (entry / "sub").symlink_to(entry.parent.parent / "sub")


def link_entry(entry: Path) -> None:
    entry.rename(entry.parent.parent / "moved")
    entry.symlink_to(entry.parent.parent / "moved")


def open_to_all(entry: Path) -> None:
    entry.chmod(0o777)


def no_manifest(entry: Path) -> None:
    (entry / MANIFEST).unlink()


def broken_manifest(entry: Path) -> None:
    (entry / MANIFEST).write_text("{")


def odd_manifest(entry: Path) -> None:
    (entry / MANIFEST).write_text("[1, 2]")


def other_version(entry: Path) -> None:
    manifest = json.loads((entry / MANIFEST).read_text())
    (entry / MANIFEST).write_text(json.dumps({**manifest, "format": 999}))


def other_key(entry: Path) -> None:
    manifest = json.loads((entry / MANIFEST).read_text())
    (entry / MANIFEST).write_text(json.dumps({**manifest, "key": key("another")}))


def a_file(entry: Path) -> None:
    entry.rename(entry.parent.parent / "moved")
    entry.write_text("not a folder")


DAMAGES = [truncate, alter, remove, add, link, link_folder, link_entry, open_to_all, no_manifest, broken_manifest,
           odd_manifest, other_version, other_key, a_file]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damage_is_removed_with_a_warning_and_built_anew(cache: Cache, damage, caplog: pytest.LogCaptureFixture):
    entry = cache.store(KEY, files)
    assert entry is not None
    damage(entry)
    with caplog.at_level(logging.WARNING):
        assert cache.find(KEY) is None
    assert len(caplog.records) == 1 and "is built anew" in caplog.text
    assert cache.find(KEY) is None and not list(cache.folder.iterdir())
    assert cache.store(KEY, files) == entry and cache.find(KEY) == entry


def test_links_are_removed_not_followed(cache: Cache):
    entry = cache.store(KEY, files)
    assert entry is not None
    link_entry(entry)
    assert cache.find(KEY) is None
    assert (cache.folder.parent / "moved" / "program.txt").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_entries_and_folders_of_others_are_refused(cache: Cache, caplog: pytest.LogCaptureFixture):
    entry = cache.store(KEY, files)
    assert entry is not None
    os.chown(entry / "program.txt", 12345, -1)
    assert cache.find(KEY) is None and "not a plain file of this user" in caplog.text
    os.chown(cache.folder, 12345, -1)
    assert open_cache(cache.folder) is None
    assert "it belongs to user 12345" in caplog.text


def test_a_folder_that_others_can_write_is_refused_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tmp_path.chmod(0o770)
    assert open_cache(tmp_path) is None and open_cache(tmp_path) is None
    assert len(caplog.records) == 1
    assert "others can write it (mode 770); chmod go-w makes it acceptable" in caplog.text


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("")
    assert open_cache(tmp_path / "file" / "cache") is None
    assert open_cache(tmp_path / "file") is None
    assert caplog.text.count("programs are not kept on disk") == 2


def test_a_disk_that_refuses_is_no_error(cache: Cache, caplog: pytest.LogCaptureFixture):
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    assert cache.store(KEY, full) is None
    assert "No space left on device" in caplog.text and not list(cache.folder.iterdir())
    cache.folder.rmdir()
    cache.folder.write_text("")
    assert cache.store(KEY, files) is None and cache.find(KEY) is None


def test_a_folder_that_was_removed_is_made_again(cache: Cache):
    cache.folder.rmdir()
    assert cache.store(KEY, files) == cache.find(KEY) == cache.folder / KEY
    assert cache.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ONELAUNCH_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/onelaunch"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/onelaunch"),
        ({"HOME": "/h"}, "/h/.cache/onelaunch"),
    ],
)
def test_the_default_folder(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch):
    for name in ("ONELAUNCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_folder() == Path(expected)


def test_the_least_recently_used_go_first(cache: Cache):
    names = [key(str(n)) for n in range(4)]
    for age, name in enumerate(names[:3]):
        entry = cache.store(name, files)
        assert entry is not None
        os.utime(entry / MANIFEST, (1000 + age, 1000 + age))
    assert cache.find(names[0]) is not None
    size = cache.entries()[0][1]
    small = Cache(cache.folder, 2 * size)
    small.store(names[3], files)
    assert {name for _, _, name in small.entries()} == {names[0], names[3]}
    Cache(cache.folder, 0).store(names[1], files)
    assert [name for _, _, name in small.entries()] == [names[1]]


def test_folders_of_writers_that_died_are_removed(cache: Cache):
    dead, alive = cache.folder / ".tmp-dead", cache.folder / ".tmp-alive"
    dead.mkdir()
    alive.mkdir()
    os.utime(dead, (1000, 1000))
    cache.store(KEY, files)
    assert not dead.exists() and alive.exists()


def test_processes_that_write_the_same_entry_at_once_do_not_corrupt_it(cache: Cache):
    script = """
import sys
from pathlib import Path
from onelaunch.program.cache import Cache
cache = Cache(Path(sys.argv[1]))
for n in range(60):
    key = f"{n % 3:064d}"
    found = cache.find(key)
    if found is None or n % 5 == 0:
        cache.drop(key)
        cache.store(key, lambda folder: [(folder / f"f{i}").write_bytes(bytes(5000)) for i in range(4)] and None)
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", script, str(cache.folder)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0 and "checksum" not in errors, errors
    assert all(cache.find(name) for _, _, name in cache.entries())
    assert not list(cache.folder.glob(".tmp-*"))
