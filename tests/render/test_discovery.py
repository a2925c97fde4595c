"""A renderer is one file, or one entry point: nothing else is edited, and none is imported that is not asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.packages import install
from support.places import FIXTURES

import inspectcli.render
from inspectcli.cli import run
from inspectcli.display.blocks import Content
from inspectcli.render import find_renderer, own_renderers

#: A page: rows that open, cells that sort by their values, links to other rows. It knows blocks, and no command.
TOY = '''
"""HTML, for this test."""

from html import escape

from inspectcli.display.blocks import Table
from inspectcli.render.base import Renderer, escape as printable


def text(raw):
    return escape(printable(raw, 1000))


def cell(column, found):
    value = "" if found.value is None else f' data-value="{text(str(found.value))}"'
    shown = f'<a href="#{text(found.link)}">{text(found.text)}</a>' if found.link else text(found.text)
    return f'<td class="{text(column.key)}"{value}>{shown}</td>'


def row(table, line):
    cells = "".join(cell(c, found) for c, found in zip(table.columns, line.cells))
    below = "".join(row(table, child) for child in line.children)
    details = f"<details{'' if line.folded else ' open'}>{below}</details>" if below else ""
    return f'<tr id="{text(line.key)}">{cells}</tr>{details}'


def render(report, width=80, color=False):
    tables = [block for block in report.blocks if isinstance(block, Table)]
    return "\\n".join(row(table, line) for table in tables for line in table.rows)


RENDERER = Renderer("toy", render, suffixes=(".html",))
'''


def forget() -> None:
    own_renderers.cache_clear()
    inspectcli.render._others.cache_clear()
    sys.modules.pop("inspectcli.render.toy", None)


@pytest.fixture(params=["a file in render/", "an entry point"])
def toy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "a file in render/":
        (tmp_path / "toy.py").write_text(TOY)
        monkeypatch.setattr(inspectcli.render, "__path__", [*inspectcli.render.__path__, str(tmp_path)])
    else:
        (tmp_path / "toy_pages.py").write_text(TOY)
        install(tmp_path, "toy_pages", "[inspectcli.renderers]\ntoy = toy_pages:RENDERER\n", monkeypatch)
    forget()
    yield
    sys.modules.pop("toy_pages", None)
    forget()


def shown(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(args) == 0
    return capsys.readouterr().out


def test_links_lead_to_the_row_of_the_tensor(toy: None, capsys: pytest.CaptureFixture[str]) -> None:
    page = shown([str(FIXTURES / "views.pt"), "--format", "toy"], capsys)
    assert '<a href="#base">= base</a>' in page
    assert '<tr id="base">' in page


def test_folds_open_and_cells_sort(toy: None, capsys: pytest.CaptureFixture[str]) -> None:
    page = shown([str(FIXTURES / "gpt2_tiny.safetensors"), "--format", "toy"], capsys)
    (fold,) = re.findall(r'<tr id="h\.\{0\.\.11\}\.mlp\.c_fc\.weight">.*?</tr><details>(.*?)</details>', page)
    assert re.findall(r'<tr id="(.*?)">', fold) != []
    sizes = [int(n) for n in re.findall(r'class="numel" data-value="(\d+)"', fold)]
    (whole,) = re.findall(r'id="h\.\{0\.\.11\}\.mlp\.c_fc\.weight">.*?class="numel" data-value="(\d+)"', page)
    assert len(sizes) == 12
    assert sum(sizes) == int(whole)


def test_a_tree_is_a_tree(toy: None, capsys: pytest.CaptureFixture[str]) -> None:
    page = shown([str(FIXTURES / "mlp.safetensors"), "--tree", "--format", "toy"], capsys)
    (below,) = re.findall(r">fc1</td>.*?</tr><details open>(.*?)</details>", page)
    assert re.findall(r'<tr id="(.*?)">', below) == ["fc1.bias", "fc1.weight"]


@pytest.mark.parametrize("command", [["inspect"], ["check", "--select", "PI1"], ["hparams"]], ids=lambda c: c[0])
def test_every_command_has_it(command: list[str], toy: None, capsys: pytest.CaptureFixture[str]) -> None:
    shown([*command, str(FIXTURES / "mlp.safetensors"), "--format", "toy"], capsys)


def test_the_name_of_a_file_means_it(toy: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.html"
    shown([str(FIXTURES / "mlp.safetensors"), "-o", str(path)], capsys)
    assert path.read_text(encoding="utf-8").startswith('<tr id="fc1.bias">')


def test_a_renderer_of_this_folder_is_in_the_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(inspectcli.render, "__path__", [*inspectcli.render.__path__, str(tmp_path)])
    forget()
    try:
        for command in ("inspect", "diff", "hparams", "check", "rules"):
            assert re.search(r"--format \[auto\|[a-z|\s]*toy", shown([command, "--help"], capsys)), command
    finally:
        forget()


def test_a_renderer_is_called_as_its_module() -> None:
    # So that one is found without importing the others.
    folder = Path(str(inspectcli.render.__file__)).parent
    for renderer in own_renderers():
        assert (folder / f"{renderer.name}.py").exists()
        assert find_renderer(renderer.name) is renderer


def test_every_part_of_a_report_can_be_drawn_and_suffixes_are_clear() -> None:
    assert {renderer.draws for renderer in own_renderers()} == set(Content)
    suffixes = [suffix for renderer in own_renderers() for suffix in renderer.suffixes]
    assert len(set(suffixes)) == len(suffixes)


@pytest.mark.parametrize("name", ["base", "_findings", "", "no.such", "os", "toy"])
def test_what_is_no_renderer(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_renderer(name) is None
    assert run([str(FIXTURES / "mlp.safetensors"), "--format", name]) == 2
    assert f"{name!r} is not one of 'auto', 'csv', 'json'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "others"), [("json", ["csv", "markdown", "terminal"]), ("plain", ["json", "sarif"])])
def test_only_the_one_that_is_asked_for_is_imported(name: str, others: list[str]) -> None:
    code = (
        "import sys; from inspectcli.cli import run; run(sys.argv[1:]); "
        "print([m for m in sys.modules if m.startswith('inspectcli.render.')], file=sys.stderr)"
    )
    args = [sys.executable, "-c", code, str(FIXTURES / "mlp.safetensors"), "--no-stats", "--format", name]
    imported = subprocess.run(args, capture_output=True, text=True, check=True).stderr
    assert f"inspectcli.render.{name}'" in imported
    assert not any(f"inspectcli.render.{other}'" in imported for other in others)
