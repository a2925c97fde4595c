"""The same report in every format; nothing in a file's texts is markup, control or formula."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.places import FIXTURES

from inspectcli.commands.inspect.run import inspect
from inspectcli.commands.inspect.view import View, present
from inspectcli.display.blocks import Cell, Column, Facts, Heading, Note, Report, Row, Table, Tone
from inspectcli.render import render
from inspectcli.render.base import display_width, escape, pad, shorten_middle

HOSTILE = [
    "\x1b[31mred\x1b[0m", "a\rb", "a\nb", "a\tb", "\u202egnp.exe", "zero\u200bwidth", "\x9b2J", "bell\x07", "\x00",
    "\u2028line", "\ud800", "\U000e0041tag", "]0;title\x07",
]  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=()), max_size=60)


def report_of(text: str) -> Report:
    row = Row((Cell(text), Cell("1")), (Row((Cell(text), Cell("2"))),))
    table = Table((Column("name", flexible=True, min_width=8), Column("n", right=True)), (row,))
    blocks = (Heading(text, text), Facts(((text, Cell(text, Tone.BAD)),)), table, Note(text))
    return Report("inspect", blocks, {"name": text}, ({"name": text, "n": 1},))


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("format_name", ["terminal", "plain", "markdown", "csv"])
def test_no_control_character_passes(text: str, format_name: str) -> None:
    shown = render(report_of(text), format_name, 80, color=False)
    assert all(c == "\n" or c.isprintable() for c in shown), ascii(shown)


@given(TEXT)
def test_escaped_text_is_printable(text: str) -> None:
    assert escape(text).isprintable()


@given(TEXT, st.integers(1, 40))
def test_shortened_text_fits(text: str, width: int) -> None:
    assert display_width(shorten_middle(escape(text), width)) <= width


@given(TEXT, st.integers(20, 200))
def test_no_line_is_wider_than_the_terminal(text: str, width: int) -> None:
    shown = render(report_of(text), "terminal", width, color=False)
    assert max(map(display_width, shown.splitlines())) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
@pytest.mark.parametrize("name", ["gpt2_tiny_nan.safetensors", "lightning.ckpt", "dtypes.pt", "zoo.keras"])
def test_real_reports_fit_every_terminal(name: str, width: int) -> None:
    report = present(inspect(str(FIXTURES / name)), View())
    shown = render(report, "terminal", width, color=False)
    assert max(map(display_width, shown.splitlines())) <= width


def test_wide_characters_take_two_columns() -> None:
    assert display_width("層") == 2
    assert pad("層", 4) == "層  "


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("h.0.weight", "`h.0.weight`"),
        ("a|b", "a\\|b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("![x](http://y)", "\\!\\[x\\]\\(http://y\\)"),
        ("@someone", "\\@someone"),
        ("`a`", "\\`a\\`"),
    ],
)
def test_names_in_markdown_are_no_markup(name: str, shown: str) -> None:
    text = render(report_of(name), "markdown")
    assert any(line.startswith(f"| {shown}") for line in text.splitlines()), text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_csv_cells_are_no_formulas(name: str) -> None:
    rows = list(csv.reader(io.StringIO(render(report_of(name), "csv"))))
    assert rows[1][0][0] not in "=+-@\t"


def test_without_color_there_is_no_escape_sequence() -> None:
    report = present(inspect(str(FIXTURES / "mlp.pt")), View())
    assert "\x1b" not in render(report, "terminal", 80, color=False)
    assert "\x1b[" in render(report, "terminal", 80, color=True)


PLAIN = """\
mlp.safetensors  (safetensors · 400 bytes)
  written by  safetensors (PyTorch)
  parameters  26 in 4 tensors
  types       f32 26 · 104 bytes
  values      no NaN, no Inf in 4 tensors read
  trained     cannot be told: of 2 weights nothing can be told

tensor      shape  type  params     mean     std      min     max  init     values 1–99 %
----------  -----  ----  ------  -------  ------  -------  ------  -------  -------------
fc1.bias    4      f32        4   0.3871  0.4225  -0.2917  0.8424  unknown  █     ██ █
fc1.weight  4×3    f32       12   0.3132    0.83   -1.074    1.14  unknown  ▇    ▅  ▇█
fc2.bias    2      f32        2  0.05595  0.2418  -0.1858  0.2977           █        █
fc2.weight  2×4    f32        8  0.07587   1.094   -1.393   1.598  unknown  ▅█▅ ▅   ▅█"""


def test_the_whole_of_a_small_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES)
    shown = render(present(inspect("mlp.safetensors"), View()), "plain")
    assert shown == PLAIN


NARROW = """\
mlp.safetensors  safetensors · 400 bytes
 written by  safetensors (PyTorch)
 parameters  26 in 4 tensors
 types       f32 26 · 104 bytes
 values      no NaN, no Inf in 4 tensors read
 trained     cannot be told: of 2 weights nothing can be told

 tensor      shape     mean     std      min     max  values 1–99 %
 ──────────  ─────  ───────  ──────  ───────  ──────  ─────────────
 fc1.bias    4       0.3871  0.4225  -0.2917  0.8424  █     ██ █
 fc1.weight  4×3     0.3132    0.83   -1.074    1.14  ▇    ▅  ▇█
 fc2.bias    2      0.05595  0.2418  -0.1858  0.2977  █        █
 fc2.weight  2×4    0.07587   1.094   -1.393   1.598  ▅█▅ ▅   ▅█
 not shown at 72 columns: type, params, init (widen the window, or
 --format plain)
"""


def test_a_narrow_terminal_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES)
    shown = render(present(inspect("mlp.safetensors"), View()), "terminal", 72)
    assert re.sub(r" +\n", "\n", shown) == NARROW


COMMANDS = [
    "::add-mask::x",
    "  ::error::x",
    "a ::stop-commands::x",
    "##[group]x",
    "x##vso[task.x]",
    "###[x]",
    "##VSO[x]",
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["terminal", "plain", "markdown", "json", "yaml", "csv"])
def test_no_text_is_a_command_of_a_ci_job(command: str, name: str) -> None:
    blocks = (
        Heading(command, command),
        Facts(((command, Cell(command)), ("x", Cell("word " * 18 + command)))),
        Note("word " * 18 + command),
        Table((Column(command, flexible=True), Column("n")), (Row((Cell(command), Cell(command))),)),
    )
    report = Report("inspect", blocks, {"a": command, command: [command]}, ({"n": command},))
    for width in range(20, 100, 7):
        shown = render(report, name, width)
        assert not re.search(r"(?m)^\s*::\w|##\w*\[", shown), shown


def test_json_and_yaml_keep_the_text_of_a_command() -> None:
    document = {"a": "##[x] ::y", "b": "\\##vso[z"}
    report = Report("inspect", (), document)
    assert json.loads(render(report, "json")) == document
    assert yaml.safe_load(render(report, "yaml")).items() >= document.items()


@pytest.mark.parametrize("name", ["encoder::layer.weight", "a##b", "#1.bias", "[0].w", "std::vector<int>", "a:b", "##"])
def test_what_is_no_command_is_shown_as_it_is(name: str) -> None:
    assert escape(name) == name


def test_characters_that_nobody_sees_are_escaped() -> None:
    for code in (0xAD, 0x34F, 0x115F, 0x1160, 0x17B4, 0x180B, 0x2065, 0x2800, 0x3164, 0xFE0F, 0xFFA0, 0xE0100, 0x1D159):
        assert escape(f"a{chr(code)}b").isascii()
