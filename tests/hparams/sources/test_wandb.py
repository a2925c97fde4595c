from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.framings import field, log_of, varint
from support.stores import by_key, by_name, claimed, places, read, truncations
from support.wandb_store import HEADER, items, run, summary

from inspectcli.errors import DamagedFileError, PinspectError, UsageError
from inspectcli.hparams.base import Selection
from inspectcli.hparams.sources import wandb

LIBRARY = "needs wandb: pip install 'inspectcli[stores]'"


def removed(*keys: str) -> bytes:
    return b"".join(field(2, field(1, key.encode())) for key in keys)


def config(data: bytes) -> bytes:
    return field(5, data)


def exited(code: int) -> bytes:
    return field(18, varint(1 << 3) + varint(code))


def records(path: Path, *data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log_of([varint(1 << 3) + varint(i + 1) + record for i, record in enumerate(data)], HEADER))
    return path


SET: dict[str, object] = {"lr": 0.1, "arch": {"n_layers": 4, "act": "gelu"}, "_wandb": {"t": {"1": [1]}}, "n": None}


def test_the_configuration_and_what_changed_it(tmp_path: Path) -> None:
    path = records(
        tmp_path / "run-x.wandb", run(SET), config(items({"weight_decay": 0.01, "arch.n_layers": 6})),
        config(items({"oops": 1})), config(removed("oops")), summary({"loss": 2.0, "train/lr": 0.05, "epoch": 3}),
    )  # fmt: skip
    store = read(wandb, path)
    assert by_key(store) == {
        "lr": 0.1, "n_layers": 6, "act": "gelu", "n": None, "weight_decay": 0.01, "train/lr": 0.05, "epoch": 3,
    }  # fmt: skip
    assert places(store) >= {
        ("learning_rate", "RunRecord.config", "run-x.wandb"),
        ("num_layers", "ConfigRecord.update.arch", "run-x.wandb"),
        ("weight_decay", "ConfigRecord.update", "run-x.wandb"),
        ("learning_rate.current", "SummaryRecord.update", "run-x.wandb"),
        ("epoch.current", "SummaryRecord.update", "run-x.wandb"),
    }


def test_every_truncation_and_much_damage(tmp_path: Path) -> None:
    whole = records(tmp_path / "a.wandb", run(SET), config(items({"bs": 2})), exited(0)).read_bytes()
    path, rng = tmp_path / "broken.wandb", random.Random(3)
    damaged = [bytearray(whole) for _ in range(200)]
    for data in damaged:
        data[rng.randrange(7, len(data))] ^= 1 << rng.randrange(8)
    for data in (*truncations(whole, len(whole)), *map(bytes, damaged)):
        path.write_bytes(data)
        if claimed(wandb, path):
            try:
                store = read(wandb, path)
            except DamagedFileError:
                continue
            assert by_key(store) in (
                {},
                by_key(read(wandb, records(tmp_path / "b.wandb", run(SET)))),
                by_key(read(wandb, tmp_path / "a.wandb")),
            )


def test_values_that_are_no_json_are_a_note(tmp_path: Path) -> None:
    bad = field(5, field(1, field(1, b"lr") + field(16, b"{")))
    store = read(wandb, records(tmp_path / "a.wandb", run({"bs": 2}), bad, config(items({"after": 1}))))
    assert by_key(store) == {"bs": 2}
    assert len(store.notes) == 1
    assert store.notes[0].startswith("read up to the damage: the value of 'lr' is not JSON")


def test_a_file_of_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.wandb"
    path.write_bytes(HEADER + b"\1" * 100)
    with pytest.raises(PinspectError):
        read(wandb, path)


NEW = """\
_wandb:
    value:
        cli_version: 0.19.1
arch:
    value:
        n_layers: 4
lr:
    value: 3e-4
mystery:
    value: x
"""
OLD = """\
wandb_version: 1

_wandb:
  desc: null
  value:
    cli_version: 0.12.21
lr:
  desc: null
  value: 3e-4
"""


def test_a_new_config(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(NEW)
    assert [(r.name, r.raw_key, r.value, r.source.locator) for r in read(wandb, path).rows] == [
        ("num_layers", "n_layers", 4, "arch.value"),
        ("learning_rate", "value", 3e-4, "lr"),
        (None, "mystery", "x", "mystery"),
    ]


def test_an_old_config(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(OLD)
    assert [(r.name, r.raw_key, r.value) for r in read(wandb, path).rows] == [("learning_rate", "value", 3e-4)]


def test_other_yaml_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("lr: {value: 1}\nlog: _wandb\n")
    assert not claimed(wandb, path)


def test_a_config_without_entries_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run-20260104_000000-ddd" / "files" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("lr:\n  value: 1e-3\n")
    assert by_name(read(wandb, path)) == {"learning_rate": 1e-3}


def test_a_folder_of_runs(tmp_path: Path) -> None:
    top = tmp_path / "wandb"
    records(top / "offline-run-20260101_000000-aaa" / "run-aaa.wandb", run({"lr": 0.1}), exited(0))
    records(top / "offline-run-20260102_000000-bbb" / "run-bbb.wandb", run({"lr": 0.2}), exited(0))
    records(top / "offline-run-20260103_000000-ccc" / "run-ccc.wandb", run({"lr": 0.3}), exited(1))
    broken = records(top / "run-20260104_000000-ddd" / "run-ddd.wandb", run({"lr": 0.4}))
    broken.write_bytes(HEADER + b"junk junk junk")
    files = broken.parent / "files"
    files.mkdir()
    (files / "config.yaml").write_text(NEW)
    (files / "wandb-summary.json").write_text('{"lr": 0.5}')
    store = read(wandb, top)
    assert by_name(store) == {"learning_rate": 0.2}
    assert [(t.name, t.state) for t in store.trials] == [
        ("aaa", "finished"), ("bbb", "finished"), ("ccc", "failed, exit code 1"), ("ddd", ""),
    ]  # fmt: skip
    assert store.notes[-1] == "4 runs, 2 complete; shown is run bbb, the latest complete one: --run chooses another"
    assert store.notes[0].startswith("run-20260104_000000-ddd: run-ddd.wandb: no record at byte 7")
    last = read(wandb, top, Selection(run="ddd"))
    assert by_name(last) == {"num_layers": 4, "learning_rate": 3e-4, "learning_rate.current": 0.5}
    assert [Path(f).name for f in last.files] == ["config.yaml", "wandb-summary.json"]
    with pytest.raises(UsageError):
        read(wandb, top, Selection(run="zzz"))
    assert by_name(read(wandb, top / "offline-run-20260101_000000-aaa")) == {"learning_rate": 0.1}


def test_what_the_library_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = pytest.importorskip("wandb", reason=LIBRARY)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    hparams = {
        "learning_rate": 3e-4,
        "batch_size": 64,
        "optimizer": "adamw",
        "model": {"n_layers": 4},
        "betas": [0.9, 0.95],
    }
    with library.init(project="p", dir=str(tmp_path), config=hparams) as live:
        live.config.update({"weight_decay": 0.01, "batch_size": 32}, allow_val_change=True)
        for step in range(500):
            live.log({"loss": 1 / (step + 1), "lr": 3e-4 * 0.5**step, "text": "x" * 200})
    expected = {
        "learning_rate": 3e-4, "batch_size": 32, "optimizer": "adamw", "num_layers": 4, "betas": [0.9, 0.95],
        "weight_decay": 0.01, "learning_rate.current": 3e-4 * 0.5**499,
    }  # fmt: skip
    store = read(wandb, tmp_path / "wandb")
    assert by_name(store) == expected
    assert store.notes == ()
    (path,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert by_name(read(wandb, path)) == expected
    whole = path.read_bytes()
    assert len(whole) > 65536  # several blocks
    for data in truncations(whole, 40):
        path.write_bytes(data)
        if len(data) > 4096:
            assert by_name(read(wandb, path))["learning_rate"] == 3e-4
