"""The documentation does what it says: its commands run, its links lead somewhere, its keys exist."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import unquote, urlsplit

import click
import pytest
import typer
from pydantic import BaseModel

from honeyguide.cli import app
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.operate import server

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
KEPT_OUT = {"node_modules", "spark-warehouse", "build", "dist", "demo"}


def pages() -> list[Path]:
    """Every Markdown file of the project, none of what is installed or made."""
    found = [path for path in ROOT.rglob("*.md") if not set(path.relative_to(ROOT).parts) & KEPT_OUT]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after the fence, and what stands in it."""

    tag: str
    text: str


def blocks(path: Path) -> list[Block]:
    return [Block(tag.strip(), text) for tag, text in _FENCE.findall(path.read_text(encoding="utf-8"))]


_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ------------------------------------------------------------------------------------------------ blocks that run


def _environment() -> dict[str, str]:
    return os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_block(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """A block in a process of its own; a failure shows what it said."""
    language = block.tag.split()[0]
    command = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, block.text], cwd=folder, env=_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{block.text}\n---\n{done.stdout}\n---\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.heavy
def test_the_quickstart_runs_as_it_stands(tmp_path: Path) -> None:
    ran = 0
    for block in blocks(DOCS / "quickstart.md"):
        if block.tag == "sh serve":
            with server(tmp_path / "shop", port=0) as running:
                there = block.text.replace("localhost:8080", f"127.0.0.1:{running.port}")
                assert there != block.text
                said = run_block(Block("sh", there.replace("curl ", "curl --noproxy '*' --fail-with-body ")), tmp_path)
            answers = said.stdout
            assert '"items":[{' in answers
            assert '"accepted":1' in answers
            assert '"suggestions":[{' in answers
        elif block.tag.split()[1:] == ["run"]:
            run_block(block, tmp_path)
        else:
            continue
        ran += 1
    assert ran >= 6
    assert (tmp_path / "shop" / "reports" / "evaluation.json").exists()


@pytest.mark.heavy
def test_the_source_of_the_extending_page_keeps_the_laws_and_is_built_in(tmp_path: Path, film_shop: Path) -> None:
    code = next(block.text for block in blocks(DOCS / "extending.md") if block.tag == "python run")
    package = tmp_path / "mypackage"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "newest.py").write_text(code)
    toml = next(block.text for block in blocks(DOCS / "extending.md") if "[[sources]]" in block.text)
    assert "mypackage.newest:Newest" in toml
    with (film_shop / "honeyguide.toml").open("a") as file:
        file.write("\n" + toml)
    check = (
        "import sys\n"
        "from honeyguide.flows.build import build\n"
        "from honeyguide.testing.sources import check_source\n"
        "from mypackage.newest import Newest\n"
        "assert check_source(Newest) == [], check_source(Newest)\n"
        "report = build(sys.argv[1])\n"
        "assert 'source-newest' in [step['name'] for step in report['steps']], report['steps']\n"
        "said = [line for line in report['decisions'] if line.startswith('blend')]\n"
        "assert said and all('newest' in line for line in said), said\n"
        "import honeyguide as hg\n"
        "assert len(hg.Workspace(sys.argv[1]).recommend(user='p1', k=5)) == 5\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, str(film_shop)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def film_shop(tmp_path: Path) -> Path:
    """A workspace of four thousand clicks."""
    import csv
    import random

    from honeyguide.flows.create import create

    random.seed(1)
    with (tmp_path / "clicks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "event", "when"])
        for n in range(4_000):
            person = random.randrange(200)
            rows.writerow([f"p{person}", f"s{random.randrange(60) * 2 + person % 2}", "view", 1_760_000_000 + n * 600])
    create(tmp_path / "films", events=tmp_path / "clicks.csv")
    return tmp_path / "films"


def test_every_python_block_compiles_and_every_toml_block_parses() -> None:
    seen = 0
    for page in pages():
        for block in blocks(page):
            language = (block.tag.split() or [""])[0]
            if language == "python":
                compile(block.text, named(page), "exec")
                seen += 1
            elif language == "toml":
                tomllib.loads(block.text)
                seen += 1
    assert seen >= 5


# ------------------------------------------------------------------------------------------- commands and targets

_COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*honeyguide(?: (.*))?$")


def commands() -> list[tuple[str, str]]:
    """(page, what follows `honeyguide`) of every command in code, inline or fenced."""
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        lines = [line for block in blocks(page) if block.tag.startswith(("sh", "bash", "console")) or not block.tag
                 for line in block.text.splitlines()]  # fmt: skip
        lines += re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
        for line in lines:
            match = _COMMAND.match(line.strip())
            if match and match[1]:
                found.append((named(page), match[1]))
    return found


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, and the words that are left."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"`honeyguide {' '.join(words)}`: there is no such command"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_that_is_named_exists(page: str, line: str) -> None:
    words = shlex.split(re.split(r"\s[#|>]|&&|…|\.\.\.", line)[0])
    command, rest = command_of(words)
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        if word.startswith("-") and word != "--":
            assert word.split("=")[0] in {*known, "--help"}, f"{page}: `honeyguide {line}` has no {word}"


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    from honeyguide.cli import main

    named_commands = {tuple(_path(line)) for _, line in commands()}
    assert {("init",), ("check",), ("build",), ("serve",), ("evaluate",)} <= named_commands
    for words in sorted(named_commands):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert not stop.value.code
        assert "Usage" in capsys.readouterr().out


def _path(line: str) -> list[str]:
    words = shlex.split(re.split(r"\s[#|>]|&&|…|\.\.\.", line)[0])
    _, rest = command_of(words)
    return words[: len(words) - len(rest)]


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = set(re.findall(r'echo "make ([a-z-]+) ', (ROOT / "Makefile").read_text()))
    assert told <= targets
    for page in pages():
        for target in re.findall(r"(?:`|^)make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert target in targets, f"{named(page)}: `make {target}`"


# ------------------------------------------------------------------------------------------------------- links

_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|<(?:img|a)[^>]+(?:src|href)=\"([^\"]+)\"")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    heads = re.findall(r"^#+ +(.+?)\s*$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in (first or second for first, second in _LINK.findall(text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / unquote(place)).resolve() if place else page
        assert target.exists(), f"{named(page)} links to {link}"
        assert target.is_relative_to(ROOT)
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{named(page)} links to {link}"


def test_the_list_of_decisions_is_whole() -> None:
    listed = re.findall(r"\[(\d+)\]\((\d{4}-[^)]+\.md)\)", (DOCS / "decisions" / "README.md").read_text())
    there = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    assert [name for _, name in listed] == there
    assert [int(number) for number, _ in listed] == [int(name[:4]) for name in there]
    assert [int(name[:4]) for name in there] == list(range(1, len(there) + 1))


# -------------------------------------------------------------------------------------------------------- keys


def sections() -> list[tuple[str, str, str]]:
    """Rows of the table in configuration.md: sections, class, what."""
    rows = re.findall(r"^\| (`.+?) \| (.+?) \| (.+?) \|$", (DOCS / "configuration.md").read_text(), re.MULTILINE)
    assert len(rows) >= 10
    return rows


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The config classes inside a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from models_in(argument)


def class_at(section: str) -> type[BaseModel] | None:
    """The class of `[a.NAME.b]`; None where the section is a plain table of the user's own keys."""
    found: type[BaseModel] = WorkspaceConfig
    for part in section.strip("[]").split("."):
        if part.isupper():
            continue  # the user's own name
        assert part in found.model_fields, f"configuration.md names [{section}], and {found.__name__} has no {part}"
        inside = list(models_in(found.model_fields[part].annotation))
        if not inside:
            return None
        [found] = inside
    return found


def keys_in(text: str) -> list[str]:
    return re.findall(r"`([a-z][a-z0-9_]*)`", text)


@pytest.mark.parametrize(("section", "where", "what"), sections())
def test_every_documented_key_exists(section: str, where: str, what: str) -> None:
    if not section.startswith("`["):
        assert set(keys_in(section)) <= WorkspaceConfig.model_fields.keys()
        return
    model = class_at(section.strip("`"))
    if model is not None:
        unknown = set(keys_in(what)) - model.model_fields.keys()
        inner = {
            key
            for field in model.model_fields.values()
            for one in models_in(field.annotation)
            for key in one.model_fields
        }
        assert not unknown - inner, f"{section}: {unknown}"
        left_out = model.model_fields.keys() - set(keys_in(what))
        assert not left_out or what.endswith("..."), f"{section} does not tell of {left_out}"
    if file := re.search(r"`([a-z_/]+\.py)(?:: (\w+))?`", where):
        module = import_module("honeyguide." + file[1].removesuffix(".py").replace("/", "."))
        if file[2]:
            assert getattr(module, file[2]) is model
        elif model is not None:
            assert model.__module__ == module.__name__
    elif name := re.fullmatch(r"`(\w+)`", where):
        assert model is not None
        assert model.__name__ == name[1]


def test_every_section_is_documented() -> None:
    told = " ".join(section for section, _, _ in sections())
    for key in WorkspaceConfig.model_fields:
        assert re.search(rf"\b{key}\b", told), f"configuration.md does not name {key}"


def test_the_examples_of_the_configuration_page_are_valid() -> None:
    examples = [block.text for block in blocks(DOCS / "configuration.md") if block.tag == "toml"]
    assert examples
    for text in examples:
        WorkspaceConfig.model_validate(tomllib.loads(text))


def test_files_and_modules_that_pages_name_exist() -> None:
    for page in [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)`", text):
            places = (ROOT / "src" / "honeyguide" / name, ROOT / name, ROOT / "src" / name)
            assert any(place.exists() for place in places), f"{named(page)} names {name}"
        for name in re.findall(r"`(honeyguide(?:\.[a-z_]+)+)`", text):
            if name not in ("honeyguide.toml", "honeyguide.plugins"):
                parts = name.split(".")
                holders = (parts, parts[:-1])  # a module, or something in one
                held = [p for p in holders if (ROOT / "src" / Path(*p)).with_suffix(".py").exists()]
                whole = (ROOT / "src" / Path(*parts)).is_dir()
                assert whole or held, f"{named(page)} names {name}"
                assert whole or held[0] == parts or hasattr(import_module(".".join(held[0])), parts[-1])


# ------------------------------------------------------------------------------------------------ nobody's machine


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout: which files are tracked cannot be told")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def _package_hosts() -> list[str]:
    """Where pip is told to look on this machine, if that is not where everybody looks."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    addresses = [asked.stdout.strip(), os.environ.get("PIP_INDEX_URL", "")]
    hosts = {urlsplit(address).hostname or "" for address in addresses}
    return [host for host in hosts if "." in host and host != "pypi.org"]


def test_no_tracked_file_names_this_machine() -> None:
    """Paths of a checkout, of a person's home, a machine's name: none of them is anybody else's business."""
    own = [str(ROOT)] if len(ROOT.parts) > 2 else []
    own += [str(Path.home())] if len(Path.home().parts) > 2 else []
    own += [host] if "." in (host := socket.gethostname()) else []
    own += _package_hosts()
    forbidden = re.compile(
        "|".join([*map(re.escape, own), r"/Users/\w", r"[A-Z]:\\\\Users", r"/home/(?!honeyguide\b)\w"])
    )
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        if path == Path(__file__).resolve():
            continue
        found = forbidden.search(text)
        assert found is None, f"{named(path)} names {found[0]!r}"
