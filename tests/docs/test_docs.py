"""The documentation says what is there: links, files, commands, options, messages, code blocks, generated tables."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from onelaunch import errors
from onelaunch.cli.arguments import make_parser
from onelaunch.frontend.options import Options

ROOT = Path(__file__).parent.parent.parent
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PICTURES = sorted(ROOT.glob("docs/img/*.svg"))
NOT_MEASURED = "Not measured yet.\n"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
REGION = re.compile(r"<!-- results: (\S+) -->\n(.*?)<!-- end of results -->", re.DOTALL)
(SUBCOMMANDS,) = (a.choices for a in make_parser()._actions if a.choices)
each_page = pytest.mark.parametrize("page", DOCS, ids=lambda p: p.name)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> Iterator[str]:
    """Lines of shell blocks, and what stands in backticks."""
    for block in blocks(page, "sh"):
        yield from (line.split("  #")[0].strip() for line in block.splitlines())
    yield from CODE.findall(prose(page))


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without head and rule."""
    text = page.read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if set(line) - set("|-: ")]


def anchors(page: Path) -> set[str]:
    """The names under which GitHub makes a page's headings reachable."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@each_page
def test_links_resolve(page: Path):
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else (page.parent / name).resolve()
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@each_page
def test_files_that_are_named_exist(page: Path):
    every = ["/" + f.relative_to(ROOT).as_posix() for top in ("onelaunch", "tests", "benchmarks", "docs")
             for f in (ROOT / top).rglob("*")]  # fmt: skip
    every += ["/" + f.name for f in ROOT.iterdir()]
    for name in CODE.findall(prose(page)):
        if re.fullmatch(r"[\w./-]*\w\.(py|h|md|toml|txt)", name) and name not in MADE:
            assert any(f.endswith("/" + name) for f in every), f"{name}: no such file"
        elif re.fullmatch(r"(\w+/)+", name):
            assert any(f.endswith("/" + name.rstrip("/")) for f in every), f"{name}: no such folder"


# What stands for something else in a quoted message.
VARIES = re.compile(r"\.\.\.|\b[A-Z]\b|\bNAME\b|\bgraph_N\b|\((?:name|op)\)|'x'|\d+|cuda:|torch\.complex|aten\.X|--\w+")
MADE = {"program.txt", "graph.txt", "prompts.txt"}  # files that commands make or take


@each_page
def test_make_targets_and_modules_exist(page: Path):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(page):
        if (found := re.match(r"make ([\w-]+)", command)) is not None:
            assert found[1] in targets, f"{command}: no such target"
        if (found := re.search(r"-m (benchmarks[\w.]*)", command)) is not None:
            assert (ROOT / found[1].replace(".", "/")).with_suffix(".py").exists(), f"{command}: no such module"


@each_page
def test_command_lines_are_accepted(page: Path):
    for command in commands(page):
        command = command.rsplit("| ", 1)[-1]
        if re.match(f"onelaunch ({'|'.join(SUBCOMMANDS)}) ", command) and "..." not in command:
            make_parser().parse_args(shlex.split(command)[1:])  # raises UserError


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_page_of_the_command_line_has_every_option(name: str):
    actions = [a for a in SUBCOMMANDS[name]._actions if a.dest != "help"]
    wanted = {(a.option_strings or [a.metavar])[0]: a.default for a in actions}
    found = {row[0].strip("`").split()[0]: row[1] for row in rows(ROOT / "docs/cli.md", f"## onelaunch {name}")[1:]
             if row[0].startswith("`")}  # fmt: skip
    assert set(found) == set(wanted)
    for name, default in wanted.items():
        if not isinstance(default, bool | None):
            assert found[name] == str(default), name


def test_the_table_of_options_is_the_options_class():
    found = {row[0].strip("`"): row[1].strip("`") for row in rows(ROOT / "README.md", "## In Python")[1:]}
    defaults = {f.name: f.default for f in dataclasses.fields(Options)}
    assert found == {name: f'"{d}"' if isinstance(d, str) else str(d) for name, d in defaults.items()}


@each_page
def test_options_and_variables_that_are_named_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    known = {f.name for f in dataclasses.fields(Options)}
    for options in re.findall(r"options=\{([^}]*)\}", text):
        assert set(re.findall(r'"(\w+)":', options)) <= known, options
    package = source()
    for variable in re.findall(r"\bONELAUNCH_\w+", text):
        assert variable in package, variable


@each_page
def test_python_blocks_compile(page: Path):
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


def test_the_quoted_rule_is_the_one_in_the_table():
    table = "".join(f.read_text() for f in (ROOT / "onelaunch/frontend").glob("rules_*.py"))
    quoted = [b for b in blocks(ROOT / "docs/adding-an-op.md", "python") if b.startswith("@rule")]
    assert quoted and all(b in table for b in quoted)


def source() -> str:
    """The package's code as one text, with strings that run over several lines joined."""
    text = "\n".join(f.read_text() for f in sorted((ROOT / "onelaunch").rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_errors_and_messages_are_those_of_the_package():
    page, package = ROOT / "docs/troubleshooting.md", source()
    table = rows(page, "## Errors")[1:]
    classes = {name for name, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, Exception)}
    assert classes - {"OnelaunchError"} <= {c for row in table for c in CODE.findall(row[0])}
    cells = [row[1] for row in table] + [r[0] for h in ("## Fallbacks", "## Warnings") for r in rows(page, h)[1:]]
    messages = [m for cell in cells for m in CODE.findall(cell)]
    assert len(messages) > 40
    for message in messages:
        longest = max((part.strip(" :;,'") for part in VARIES.split(message)), key=len)
        assert longest in package, f"{message!r}: {longest!r} is in no message of the package"


@each_page
def test_generated_tables_are_their_results(page: Path):
    text = page.read_text(encoding="utf-8")
    found = REGION.findall(text)
    assert len(found) == text.count("<!-- results: ") == text.count("<!-- end of results -->")
    for name, content in found:
        if not (ROOT / "benchmarks/results" / f"{name}.json").exists():
            assert content == NOT_MEASURED, f"{name} has no result, so the table says so"
            continue
        from benchmarks.tables import load
        from benchmarks.tables import markdown

        assert content == markdown(load(name)), f"python -m benchmarks.tables {page.name} fills it"


def test_tables_of_quality_are_their_results():
    from benchmarks.quality_table import fill

    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert "<!-- quality: quality-cpu -->" in page
    assert fill(page) == page, "python -m benchmarks.quality_table docs/benchmarks.md fills it"


def test_the_tables_are_where_readers_look():
    for page in ("README.md", "docs/benchmarks.md"):
        assert "<!-- results: decode-cpu -->" in (ROOT / page).read_text(encoding="utf-8"), page


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.name)
def test_pictures_are_whole_and_paint_their_own_background(picture: Path):
    root = ET.parse(picture).getroot()
    assert root.tag.endswith("svg")
    text = picture.read_text(encoding="utf-8")
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "") and "<script" not in text
    first = next(e for e in root if e.tag.endswith("rect"))
    assert first.get("fill") in ("#fff", "#ffffff")


@each_page
def test_no_page_names_somebodys_machine(page: Path):
    assert not re.search(r"/(work|root|home|tmp|opt)/\w", page.read_text(encoding="utf-8"))
