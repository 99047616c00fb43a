"""The disk cache: finished builds by content, in a folder that only its owner can write.

An entry is a folder named by its key, with a manifest of every file's SHA-256. It is written under another name and
renamed when complete, so that a reader sees all of it or nothing and two writers cannot mix. What does not agree with
its manifest (truncated, altered, of another owner, a link) is removed with a warning and built anew. The least
recently used entries go when the folder grows beyond its limit. Nothing is ever unpickled or executed to read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

FORMAT = 1  # of manifests
LIMIT = 8 << 30  # bytes
MANIFEST = "manifest.json"
_TEMPORARY = ".tmp-"
_STALE = 24 * 3600.0  # seconds after which a temporary folder belongs to nobody
_warned: set[str] = set()


def key(*parts: str) -> str:
    """A hex digest of ``parts``: the name of the entry that is made from exactly these."""
    sink = hashlib.sha256(f"onelaunch cache {FORMAT}".encode())
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        sink.update(f"\0{len(data)}:".encode() + data)
    return sink.hexdigest()


def default_folder() -> Path:
    """$ONELAUNCH_CACHE, or onelaunch in $XDG_CACHE_HOME, or ~/.cache/onelaunch. Raises RuntimeError without a home."""
    if own := os.environ.get("ONELAUNCH_CACHE"):
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else Path.home() / ".cache") / "onelaunch"


def open_cache(folder: Path | None = None, limit: int = LIMIT) -> Cache | None:
    """The cache in ``folder`` (None: the default one), created if absent.

    None, after one warning that says why, where the folder cannot be created or written, belongs to someone else, or
    can be written by others.
    """
    found, reason = examine(folder)
    if found is not None and reason is None:
        return Cache(found, limit)
    _warn_once(f"programs are not kept on disk: cache folder {folder or ''}: {reason}")
    return None


def examine(folder: Path | None = None) -> tuple[Path | None, str | None]:
    """The cache folder (None: the default one), created if absent, and why it cannot be used; None: it can."""
    found: Path | None = None
    try:
        found = (default_folder() if folder is None else folder).expanduser()
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = found.resolve(strict=True)
        reason = _distrust(found.stat())
        if reason is None and not os.access(found, os.R_OK | os.W_OK | os.X_OK):
            reason = "it cannot be written"
    except (OSError, RuntimeError) as error:
        reason = str(error)
    return found, reason


def _distrust(found: os.stat_result) -> str | None:
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a folder"
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}, not to {os.geteuid()}"
    if found.st_mode & 0o022:
        return f"others can write it (mode {stat.S_IMODE(found.st_mode):o}); chmod go-w makes it acceptable"
    return None


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        log.warning("%s", message)


class Cache:
    """Entries in one folder, which has been found acceptable (``open_cache``)."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit

    def find(self, key: str) -> Path | None:
        """The folder of an entry whose every file is as it was written; None: there is none (any more)."""
        entry = self.folder / key
        try:
            os.lstat(entry)
        except OSError:
            return None
        problem = damage(entry, key)
        if problem is not None:
            log.warning("cache entry %s is built anew: %s", key[:16], problem)
            self.drop(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(entry / MANIFEST)
        return entry

    def store(self, key: str, write: Callable[[Path], object]) -> Path | None:
        """Make the entry ``key`` of the files that ``write(folder)`` puts into an empty folder; returns its folder.

        Where another process has finished the same entry meanwhile, that one stays. None, after a warning, where the
        disk refuses; what ``write`` raises is passed on, and nothing is left behind.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may be removed at any time
            temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self.folder))
        except OSError as error:
            _warn_once(f"programs are not kept on disk: cache folder {self.folder}: {error}")
            return None
        entry = self.folder / key
        try:
            write(temporary)
            _seal(temporary, key)
            try:
                temporary.rename(entry)
            except OSError:
                if damage(entry, key) is not None:
                    self.drop(key)
                    temporary.rename(entry)
        except OSError as error:
            _warn_once(f"a program is not kept on disk: {error}")
            return None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._evict(keep=key)
        return entry

    def drop(self, key: str) -> None:
        """Remove an entry; readers that have opened its files keep them."""
        entry = self.folder / key
        with contextlib.suppress(OSError):
            if entry.is_symlink() or not entry.is_dir():
                entry.unlink()
                return
            with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=self.folder, ignore_cleanup_errors=True) as grave:
                entry.rename(Path(grave) / "entry")

    def entries(self) -> list[tuple[float, int, str]]:
        """Last use (seconds since 1970), size in bytes, and key of every entry, least recently used first."""
        found = []
        for folder in self.folder.iterdir():
            if folder.name.startswith(_TEMPORARY):
                continue
            with contextlib.suppress(OSError):
                size = sum(f.lstat().st_size for f in _files(folder))
                found.append(((folder / MANIFEST).lstat().st_mtime, size, folder.name))
        return sorted(found)

    def _evict(self, keep: str) -> None:
        with contextlib.suppress(OSError):
            for folder in self.folder.glob(_TEMPORARY + "*"):
                if time.time() - folder.lstat().st_mtime > _STALE:
                    shutil.rmtree(folder, ignore_errors=True)
            found = self.entries()
            excess = sum(size for _, size, _ in found) - self.limit
            for _, size, name in found:
                if excess <= 0:
                    break
                if name != keep:
                    self.drop(name)
                    excess -= size


def _files(folder: Path) -> Iterator[Path]:
    """Every file and link below ``folder``."""
    for root, folders, names in os.walk(folder):
        for name in (*names, *(f for f in folders if (Path(root) / f).is_symlink())):
            yield Path(root) / name


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _seal(folder: Path, key: str) -> None:
    files = {f.relative_to(folder).as_posix(): _digest(f) for f in sorted(_files(folder))}
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "key": key, "files": files}, indent=1))


def damage(entry: Path, key: str) -> str | None:
    """What is wrong with an entry; None: every file is there, is a plain file of ours, and has its checksum."""
    try:
        if (reason := _distrust(os.lstat(entry))) is not None:
            return reason
        found = list(_files(entry))
        for file in found:
            state = os.lstat(file)
            if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
                return f"{file.name} is not a plain file of this user"
        manifest = json.loads((entry / MANIFEST).read_text())
        if manifest["format"] != FORMAT or manifest["key"] != key:
            return "it is another entry, or of another version"
        files = manifest["files"]
        present = {f.relative_to(entry).as_posix() for f in found} - {MANIFEST}
        if present != set(files):
            return f"files are missing or foreign: {', '.join(sorted(present ^ set(files)))}"
        for name in sorted(files):
            if _digest(entry / name) != files[name]:
                return f"{name} differs from its checksum"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"its manifest is not readable ({type(error).__name__}: {error})"
    return None
