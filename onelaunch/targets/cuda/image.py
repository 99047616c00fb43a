"""What a device needs of a program besides its code: small enough to be kept on disk and read at once.

A stored program is made from these alone. Its tasks, of which there are tens of thousands, are then read from its text
only if somebody asks for them (``program/parse.py``).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from onelaunch.targets.cuda.emit import Shape
from onelaunch.targets.cuda.emit import Source
from onelaunch.targets.cuda.records import Tables
from onelaunch.targets.cuda.records import Words

SIZES, TABLES = "image.json", "tables.npy"


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """``tables`` begin at ``starts``, in bytes (``records.py``); ``places`` and ``words`` as of ``Dataflow``."""

    shape: Shape
    tables: Words
    starts: dict[str, int]
    places: dict[int, int]
    words: int

    def write(self, folder: Path) -> None:
        """Store it in two files."""
        np.save(folder / TABLES, self.tables, allow_pickle=False)
        sizes = {
            "shape": dataclasses.asdict(self.shape), "starts": self.starts, "places": list(self.places.items()),
            "words": self.words,
        }  # fmt: skip
        (folder / SIZES).write_text(json.dumps(sizes, indent=1))


def image_of(source: Source, tables: Tables) -> Image:
    """The image of the program that has this source and these tables."""
    packed, starts = tables.packed()
    return Image(source.shape, packed, starts, source.flow.places, source.flow.words)


def read_image(folder: Path) -> Image:
    """What ``Image.write`` has stored. Raises OSError or ValueError where it is not there, or not understood."""
    try:
        sizes = json.loads((folder / SIZES).read_text())
        tables = np.load(folder / TABLES, allow_pickle=False)
        places = {int(b): int(start) for b, start in sizes["places"]}
        return Image(Shape(**sizes["shape"]), tables, sizes["starts"], places, sizes["words"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{SIZES} is not understood ({error})") from error
