"""``python -m onelaunch.cli``: the same as the console script."""

from __future__ import annotations

import sys

from onelaunch.cli import main

sys.exit(main())
