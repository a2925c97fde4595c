"""Whatever is done to the files of a folder, coverage and findings account for it: nothing is passed over unsaid."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from inspectcli import check
from inspectcli.analysis.findings import Severity
from inspectcli.commands.check.result import CheckReport
from inspectcli.commands.check.view import CheckView, present_check
from inspectcli.render import render

#: Files of a folder that are no checkpoints.
OTHERS = {"notes.txt": b"loss 0.2\n", "plot.png": b"\x89PNG\r\n\x1a\n" + bytes(64), "train.py": b"print(1)\n"}


def weights(seed: int, blocks: int = 4, width: int = 24) -> dict[str, torch.Tensor]:
    """What training leaves: values that no initializer draws, and no zeros."""
    g = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return 0.1 * torch.randn(shape, generator=g) * (0.2 + 2 * torch.rand(shape, generator=g) ** 3)

    made = {"model.embed_tokens.weight": drawn(64, width)}
    for i in range(blocks):
        p = f"model.layers.{i}."
        for layer in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"):
            made[f"{p}{layer}.weight"] = drawn(width, width)
        made[f"{p}input_layernorm.weight"] = 1 + drawn(width)
    return made


def folder(path: Path) -> list[Path]:
    """Checkpoints of two formats at several depths, among other files; returns the checkpoints."""
    made = []
    for seed, name in enumerate(("a.safetensors", "runs/b.pt", "runs/x/y/z/c.safetensors", "runs/x/y/z/d.pth")):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            safetensors.torch.save_file(weights(seed), file)
        else:
            torch.save(weights(seed), file)
        made.append(file)
    for name, content in OTHERS.items():
        (path / "runs" / name).write_bytes(content)
    return made


def text_of(report: CheckReport) -> str:
    return render(present_check(report, CheckView()), "plain")


def test_untouched(tmp_path: Path) -> None:
    files = folder(tmp_path)
    report = check(tmp_path, fail_on="warning")
    assert {file.path for file in report.files} == {str(file) for file in files}
    assert report.exit_code == 0
    assert (report.coverage.files, report.coverage.unread, report.coverage.passed_over) == (4, 0, len(OTHERS))
    assert report.coverage.tensors == report.coverage.tensors_read == 4 * 21
    assert text_of(report).rstrip().endswith("0 not read, 3 passed over: no checkpoints")


# -- what changes nothing: the file is judged wherever and however it is called ------------------------------


def nested(file: Path, rng: random.Random) -> Path:
    deep = file.parent.joinpath(*(f"n{i}" for i in range(rng.randrange(1, 30))))
    deep.mkdir(parents=True)
    return Path(shutil.move(file, deep / file.name))


def without_a_suffix(file: Path, rng: random.Random) -> Path:
    return file.rename(file.with_name(f"weights{rng.randrange(99)}"))


def under_a_suffix_of_nobody(file: Path, rng: random.Random) -> Path:
    return file.rename(file.with_name(file.name + rng.choice([".bak", ".old", ".v2", ".tmp", ".part"])))


def beside_a_model(file: Path, rng: random.Random) -> Path:
    safetensors.torch.save_file(weights(77), file.with_name("model.safetensors"))
    names = ["optimizer.pt", "training_args.bin", "pytorch_model.bin", "rng_state.pth"]
    if file.suffix == ".safetensors":
        names = ["adapter_model.safetensors", "model.fp16.safetensors", "consolidated.safetensors"]
    return file.rename(file.with_name(rng.choice(names)))


@pytest.mark.parametrize("move", [nested, without_a_suffix, under_a_suffix_of_nobody, beside_a_model])
@pytest.mark.parametrize("seed", range(3))
def test_a_file_is_judged_wherever_it_lies(
    move: Callable[[Path, random.Random], Path], seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    file = rng.choice(folder(tmp_path))
    bad = weights(5)
    bad["model.layers.2.mlp.up_proj.weight"][3, 4] = float("nan")
    safetensors.torch.save_file(bad, file) if file.suffix == ".safetensors" else torch.save(bad, file)
    moved = move(file, rng)
    report = check(tmp_path)
    (nan,) = [checked for checked in report.files if any(f.code == "PI101" for f in checked.findings)]
    assert (nan.path, report.exit_code) == (str(moved), 1)


# -- what destroys: it is found, or the file is said to be unread ---------------------------------------------


def cut(file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(rng.uniform(0.01, 0.99) * len(data))])


def emptied(file: Path, rng: random.Random) -> None:
    file.write_bytes(b"")


def filled_with_zeros(file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    start = int(rng.uniform(0.2, 0.7) * len(data))
    file.write_bytes(data[:start] + bytes(len(data) - start))


def without_tensors(file: Path, rng: random.Random) -> None:
    safetensors.torch.save_file({}, file) if file.suffix == ".safetensors" else torch.save({"model": {}}, file)


def all_zeros(file: Path, rng: random.Random) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in weights(0).items()}
    safetensors.torch.save_file(zeros, file) if file.suffix == ".safetensors" else torch.save(zeros, file)


def a_pointer(file: Path, rng: random.Random) -> None:
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")


def another_format(file: Path, rng: random.Random) -> None:
    file.write_bytes(rng.choice([b"GGUF" + bytes(99), b"\x08\x07\x12\x07pytorch" + bytes(99)]))


def a_tensor_less(file: Path, rng: random.Random) -> None:
    block = rng.choice([1, 2])
    kept = weights(0)
    del kept[rng.choice([name for name in kept if f"layers.{block}." in name])]
    safetensors.torch.save_file(kept, file) if file.suffix == ".safetensors" else torch.save(kept, file)


DAMAGES = (cut, emptied, filled_with_zeros, without_tensors, all_zeros, a_pointer, another_format, a_tensor_less)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_done_to_a_file_is_said(
    damage: Callable[[Path, random.Random], None], seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    file = rng.choice(folder(tmp_path))
    damage(file, rng)
    report = check(tmp_path, fail_on="warning")
    (checked,) = [checked for checked in report.files if checked.path == str(file)]
    assert checked.error is not None or any(f.severity is not Severity.NOTE for f in checked.findings)
    assert report.exit_code == (2 if checked.error else 1)
    assert len(report.files) == 4
    assert (report.coverage.files, report.coverage.unread) == ((3, 1) if checked.error else (4, 0))
    if checked.error is not None:
        allowed = check(tmp_path, fail_on="warning", allow_unread=[f"*{file.name}"])
        assert allowed.exit_code == (1 if checked.findings else 0)
        assert str(file) in text_of(allowed)
        assert allowed.coverage == report.coverage


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("missing", [1, 3, 5])
def test_a_shard_less(index: bool, missing: int, tmp_path: Path) -> None:
    tensors = weights(1)
    names = [f"model-{n:05d}-of-00005.safetensors" for n in range(1, 6)]
    where = {name: names[i * 5 // len(tensors)] for i, name in enumerate(tensors)}
    for shard in names:
        safetensors.torch.save_file({k: tensors[k] for k in tensors if where[k] == shard}, tmp_path / shard)
    if index:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert check(tmp_path, fail_on="warning").exit_code == 0
    (tmp_path / names[missing - 1]).unlink()
    report = check(tmp_path, fail_on="warning")
    assert report.exit_code in (1, 2)
    assert names[missing - 1] in text_of(report)
