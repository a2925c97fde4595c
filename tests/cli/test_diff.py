"""`pinspect diff`: what it prints, its exit codes, and git."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.places import CORPUS

from inspectcli.cli import run
from inspectcli.cli.diff import STATUSES
from inspectcli.commands.diff.compare import Status


def save(folder: Path, name: str, state: dict[str, torch.Tensor]) -> str:
    path = folder / name
    (torch.save if name.endswith(".pt") else save_file)(state, str(path))  # type: ignore[operator]
    return str(path)


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"h.{i}.fc.weight": torch.randn(8, 4, generator=generator) for i in range(4)} | {
        "head.weight": torch.randn(3, 8, generator=generator)
    }


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    a, b = weights(), weights()
    b["h.2.fc.weight"] *= 2
    b["head.weight"][0, 0] += 0.5
    b["extra.bias"] = torch.zeros(2)
    save(tmp_path, "a.pt", a)
    save(tmp_path, "b.safetensors", b)
    return tmp_path


def test_the_report(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "a.pt", "b.safetensors", "--format", "plain"]) == 1
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [
        "a.pt → b.safetensors",
        "  Fine-tune of the same base: 3 of 5 tensors untouched, largest change in h.2.fc.weight (1 added)",
    ]
    assert [line.split()[0:2] for line in lines if line.startswith(("+", "h.", "head"))] == [
        ["+", "extra.bias"],
        ["h.2.fc.weight", "8×4"],
        ["head.weight", "3×8"],
    ]
    assert lines[-1] == "  3 unchanged tensors not shown (--all)"


@pytest.mark.parametrize("name", ["terminal", "plain", "markdown", "csv", "json"])
def test_every_format_writes(name: str, pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "a.pt", "b.safetensors", "--format", name]) == 1
    out, err = capsys.readouterr()
    assert "h.2.fc.weight" in out
    assert err == ""


def test_json_has_every_tensor(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["diff", "a.pt", "b.safetensors", "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["command"], found["same"]) == ("pinspect/1", "diff", False)
    assert found["verdict"]["code"] == "fine-tune"
    by_name = {t["b"]: t for t in found["tensors"]}
    assert {n: t["status"] for n, t in by_name.items()} == {
        "h.0.fc.weight": "identical", "h.1.fc.weight": "identical", "h.2.fc.weight": "changed",
        "h.3.fc.weight": "identical", "head.weight": "changed", "extra.bias": "added",
    }  # fmt: skip
    assert by_name["head.weight"]["max_abs_index"] == [0, 0]
    assert by_name["h.2.fc.weight"]["rel_l2"] == pytest.approx(1.0)
    assert by_name["extra.bias"]["a"] is None
    assert by_name["extra.bias"]["how_matched"] == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a.pt", "a.pt"], 0),
        (["a.pt", "b.safetensors"], 1),
        (["a.pt", "missing.pt"], 2),
        (["a.pt"], 2),
        (["a.pt", "a.pt", "a.pt"], 2),
        (["a.pt", "a.pt", "--only", "odd"], 2),
        (["a.pt", "a.pt", "--only", "equal_values"], 2),  # codes have dashes
        (["a.pt", "b.safetensors", "--filter", "h.0.*"], 0),
        (["a.pt", "b.safetensors", "--filter", "!extra.*", "--filter", "!h.2.*", "--atol", "0.6"], 0),
        (["a.pt", "b.safetensors", "--map", "missing.txt"], 2),
    ],
)
def test_exit_codes(arguments: list[str], code: int, pair: Path) -> None:
    assert run(["diff", "--quiet", *arguments]) == code


def test_a_damaged_file_cannot_be_compared(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (pair / "b.safetensors").read_bytes()
    (pair / "cut.safetensors").write_bytes(data[:-10])
    assert run(["diff", "a.pt", "cut.safetensors"]) == 2
    assert "cut.safetensors" in capsys.readouterr().err


def test_a_tensor_that_cannot_be_read_is_named(fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", str(fixtures / "mlp_deflated.pt"), str(fixtures / "damaged" / "cut_mlp_legacy.pt")]) == 2
    out, err = capsys.readouterr()
    assert "Not compared" in out
    assert "fc1.bias: cut: " in err


def test_only_top_stat_and_quiet(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*arguments: str) -> str:
        assert run(["diff", "a.pt", "b.safetensors", "--format", "plain", *arguments]) == 1
        return capsys.readouterr().out.split("\n\n", 1)[-1]

    assert "extra.bias" in shown("--only", "added")
    assert "head.weight" not in shown("--only", "added")
    assert "head.weight" not in shown("--only", "changed", "--top", "1")
    assert "h.0.fc.weight" in shown("--all")
    stat = shown("--stat")
    assert [line.split()[0] for line in stat.splitlines()[2:] if line] == ["h.0", "h.1", "h.2", "h.3", "head", "extra"]
    assert "frozen" in stat
    assert shown("--quiet") == ""


@pytest.mark.parametrize("text", ["head.weight classifier.weight\n", '{"head.weight": "classifier.weight"}'])
def test_a_map_says_what_only_the_user_knows(text: str, pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = weights()
    other["classifier.weight"] = other.pop("head.weight") + 1
    save(pair, "c.pt", other)
    (pair / "map.txt").write_text(text)
    assert run(["diff", "a.pt", "c.pt", "--format", "json"]) == 1
    assert {t["status"] for t in json.loads(capsys.readouterr().out)["tensors"]} == {"identical", "added", "removed"}
    assert run(["diff", "a.pt", "c.pt", "--format", "json", "--map", "map.txt"]) == 1
    found = json.loads(capsys.readouterr().out)["tensors"]
    assert [(t["a"], t["b"], t["status"]) for t in found if t["how_matched"] == "map"] == [
        ("head.weight", "classifier.weight", "changed")
    ]


def test_a_map_of_a_tensor_that_is_not_there(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pair / "map.txt").write_text("nowhere head.weight\n")
    assert run(["diff", "a.pt", "b.safetensors", "--map", "map.txt"]) == 2
    assert "--map: A has no tensor 'nowhere'" in capsys.readouterr().err


def test_statuses_are_those_of_the_library() -> None:
    assert [status.value for status in Status] == list(STATUSES)


def test_names_from_the_file_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = save(tmp_path, "a.pt", {"evil\x1b[2J\n.weight": torch.ones(2)})
    b = save(tmp_path, "b.pt", {"evil\x1b[2J\n.weight": torch.zeros(2)})
    for arguments in (["diff", a, b], ["diff", "--git-textconv", a]):
        run(arguments)
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "evil\\x1b[2J\\x0a.weight" in out


# -- a run's checkpoints --------------------------------------------------------------------------------------


def test_a_trajectory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = weights()
    norms = []
    for step in (500, 1000, 1500):
        (tmp_path / f"checkpoint-{step}").mkdir()
        save(tmp_path, f"checkpoint-{step}/model.safetensors", state)
        state = {n: v.clone() for n, v in state.items()}
        norms.append(state["h.1.fc.weight"].norm().item())
        state["h.1.fc.weight"] *= 2
    assert run(["diff", str(tmp_path), "--format", "json"]) == 1
    steps = json.loads(capsys.readouterr().out)["trajectory"]
    assert [s["name"] for s in steps] == ["checkpoint-500", "checkpoint-1000", "checkpoint-1500"]
    assert steps[0]["from_first"] is None
    assert [s["from_first"]["l2"] for s in steps[1:]] == pytest.approx([norms[0], 3 * norms[0]], rel=1e-6)
    assert [s["from_previous"]["l2"] for s in steps[1:]] == pytest.approx([norms[0], norms[1]], rel=1e-6)
    module = next(m for m in steps[2]["modules"] if m["name"] == "h.1")
    assert (module["from_first"]["rel"], module["from_previous"]["rel"]) == pytest.approx((3.0, 2.0), rel=1e-6)
    assert all(m["from_first"]["l2"] == 0 for m in steps[2]["modules"] if m["name"] != "h.1")
    assert run(["diff", str(tmp_path), "--format", "plain"]) == 1
    assert "checkpoint-500" in capsys.readouterr().out


def test_a_run_that_stood_still(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, f"step_{step}.pt", weights())
    assert run(["diff", str(tmp_path), "--quiet"]) == 0


def test_a_folder_with_one_checkpoint_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, "only.pt", weights())
    assert run(["diff", str(tmp_path)]) == 2
    assert "at least two expected" in capsys.readouterr().err


# -- git ------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
        "GIT_CONFIG_SYSTEM": os.devnull,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONIOENCODING": "utf-8",
    }
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.autocrlf=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_shows_what_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    # The lines of the README, with this interpreter.
    command = f'"{sys.executable}" -m inspectcli diff --git-textconv'
    git(tmp_path, "config", "diff.pinspect.textconv", command)
    (tmp_path / ".gitattributes").write_text("*.pt diff=pinspect\n*.safetensors diff=pinspect\n")
    save(tmp_path, "model.safetensors", weights())
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    changed = weights()
    changed["h.2.fc.weight"][7, 3] += 1e-6
    changed["new.bias"] = torch.ones(2)
    save(tmp_path, "model.safetensors", changed)
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:2\nsize 5\n")
    for text in (git(tmp_path, "diff"), git(tmp_path, "diff", "HEAD")):
        lines = [line for line in text.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        assert [line.split("  ")[0] for line in lines] == [
            "-h.2.fc.weight", "+h.2.fc.weight", "+new.bias", "-oid sha256:1", "+oid sha256:2",
        ]  # fmt: skip
    git(tmp_path, "commit", "-qam", "second")
    assert "+new.bias  2 f32  mean 1 std 0 min 1 max 1  #" in git(tmp_path, "log", "-p")


# -- real pairs -----------------------------------------------------------------------------------------------

FILES = CORPUS / "corpora" / "files"
LPIPS = "lpips/lpips/weights"
SEVENNET = "MDIL-SNU+SevenNet/tests/data/checkpoints"
MEGNET = "materialsvirtuallab+megnet/mvl_models/mf_2020/pbe_gllb_hse_exp"
SILERO = "silero-vad/silero_vad/data"


def real(capsys: pytest.CaptureFixture[str], a: str, b: str, code: int) -> dict[str, object]:
    assert run(["diff", str(FILES / a), str(FILES / b), "--format", "json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.corpus
def test_sevennet_differs_in_one_key(capsys: pytest.CaptureFixture[str]) -> None:
    found = real(capsys, f"{SEVENNET}/_cp_0.pth_old", f"{SEVENNET}/cp_0.pth", 0)
    assert found["verdict"]["code"] == "same-weights"  # type: ignore[index]
    assert found["metadata"] == [{"key": "config.version", "b": "0.10.0"}]


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["alex", "squeeze", "vgg"])
def test_lpips_was_trained_again(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = real(capsys, f"{LPIPS}/v0.0/{name}.pth", f"{LPIPS}/v0.1/{name}.pth", 1)
    a, b = (torch.load(FILES / LPIPS / v / f"{name}.pth", map_location="cpu") for v in ("v0.0", "v0.1"))
    assert found["verdict"]["code"] == "related-models"  # type: ignore[index]
    for t in found["tensors"]:  # type: ignore[attr-defined]
        x, y = a[t["a"]].double(), b[t["b"]].double()
        assert (t["status"], t["how_matched"]) == ("changed", "name")
        assert t["max_abs"] == (x - y).abs().max().item()
        assert t["rel_l2"] == pytest.approx(((x - y).norm() / x.norm()).item(), rel=1e-6)
        assert t["changed"] == int((x != y).sum())


@pytest.mark.corpus
def test_members_of_an_ensemble_are_different_models(capsys: pytest.CaptureFixture[str]) -> None:
    found = real(capsys, f"{MEGNET}/0/best_model.hdf5", f"{MEGNET}/1/best_model.hdf5", 1)
    assert found["verdict"]["text"] == "Different models of the same architecture"  # type: ignore[index]
    assert {t["how_matched"] for t in found["tensors"]} == {"name"}  # type: ignore[attr-defined]


@pytest.mark.corpus
def test_the_same_shapes_in_the_same_order_are_matched_under_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    found = real(capsys, f"{SILERO}/silero_vad.jit", f"{SILERO}/silero_vad_16k.safetensors", 1)
    assert found["counts"]["added"] == 0  # type: ignore[index]
    # The values correlate by 0.95: trained from the same start.
    assert found["verdict"]["code"] == "fine-tune"  # type: ignore[index]
