from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.framings import field, tf_of
from support.stores import by_key, by_name, claimed, places, read, truncations
from support.tensorboard_store import SET, VERSION, double, plugin, scalar, session, value

from inspectcli.errors import PinspectError
from inspectcli.hparams.sources import tensorboard

LIBRARY = "needs tensorboard: pip install 'inspectcli[stores]'"


def events(path: Path, *records: bytes) -> Path:
    path.write_bytes(tf_of([VERSION, *records]))
    return path


def test_every_type_of_value(tmp_path: Path) -> None:
    store = read(tensorboard, events(tmp_path / "events.out.tfevents.1", session(SET)))
    assert by_key(store) == {
        "lr": 0.003, "bsize": 64, "opt": "adam", "nesterov": True, "note": None, "layers": [64, 32], "p": 0.5,
    }  # fmt: skip
    assert ("learning_rate", "_hparams_/session_start_info", "events.out.tfevents.1") in places(store)
    assert type(by_key(store)["bsize"]) is int


def test_the_last_point_of_a_learning_rate_curve(tmp_path: Path) -> None:
    path = events(
        tmp_path / "e", scalar("train/loss", 1.0, 0), scalar("lr-Adam/pg1", 0.1, 0), scalar("lr-Adam/pg1", 0.05, 7),
        scalar("slr", 3.0, 1), scalar("lr_loss", 3.0, 1), scalar("epoch", 4, 9),
    )  # fmt: skip
    store = read(tensorboard, path)
    assert by_name(store) == {"learning_rate.current": 0.05, "epoch.current": 4}
    assert [(str(row.kind), row.note) for row in store.rows] == [
        ("dynamic", "last of its curve, at step 7"),
        ("dynamic", "last of its curve, at step 9"),
    ]


def test_what_was_searched(tmp_path: Path) -> None:
    interval = field(4, field(1, b"lr") + field(6, double(1, 0.001) + double(2, 0.1)))
    choices = field(4, field(1, b"opt") + field(5, field(1, value("adam")) + field(1, value("sgd"))))
    path = events(tmp_path / "e", plugin("_hparams_/experiment", 2, interval + choices), session(SET))
    notes = {row.raw_key: row.note for row in read(tensorboard, path).rows}
    assert (notes["lr"], notes["opt"]) == ("searched 0.001 to 0.1", "searched adam, sgd")


def test_what_is_no_event_file(tmp_path: Path) -> None:
    path = tmp_path / "e"
    for data in (b"", b"brain.Event:2", tf_of([b"other"]), b"\0" * 100):
        path.write_bytes(data)
        assert not claimed(tensorboard, path)


def test_every_truncation_and_much_damage(tmp_path: Path) -> None:
    whole = events(tmp_path / "e", session(SET), scalar("lr", 0.1, 3)).read_bytes()
    expected = [(row.name, row.raw_key, row.value) for row in read(tensorboard, tmp_path / "e").rows]
    path, rng = tmp_path / "broken", random.Random(1)
    damaged = []
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(data))
    for data in (*truncations(whole, len(whole)), *damaged):
        path.write_bytes(data)
        if claimed(tensorboard, path):
            store = read(tensorboard, path)
            seen = [(row.name, row.raw_key, row.value) for row in store.rows]
            assert seen == expected[: len(seen)]
            assert len(seen) in (0, len(SET), len(expected))


def test_values_nested_without_end(tmp_path: Path) -> None:
    nested: object = 1.0
    for _ in range(200):
        nested = [nested]
    store = read(tensorboard, events(tmp_path / "e", session({"x": nested})))
    assert store.notes == ("read up to the damage: a value nested more than 20 levels deep",)


def test_what_torch_writes(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=LIBRARY)
    from torch.utils.tensorboard import SummaryWriter

    hparams = {"lr": 1e-3, "bsize": 64, "opt": "adam", "dropout": 0.1}
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_hparams(hparams, {"hparam/accuracy": 0.9})
        for step in range(3):
            writer.add_scalar("train/lr", 1e-3 / 2**step, step)
    stores = [read(tensorboard, path) for path in sorted(tmp_path.rglob("*tfevents*"))]
    assert [by_key(s) for s in stores if "opt" in by_key(s)] == [hparams]
    assert [by_name(s) for s in stores if "train/lr" in by_key(s)] == [{"learning_rate.current": 2.5e-4}]


def test_what_tensorboardx_writes(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("tensorboardX", reason="needs tensorboardX: pip install 'inspectcli[stores]'")
    hparams = {"lr": 2e-3, "batch_size": 32, "optimizer": "sgd", "amp": True}
    with library.SummaryWriter(str(tmp_path)) as writer:
        writer.add_hparams(hparams, {"accuracy": 0.9})
    stores = [by_key(read(tensorboard, path)) for path in tmp_path.rglob("*tfevents*")]
    assert hparams in stores


def test_the_plugin_of_tensorboard_itself(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=LIBRARY)
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    data = HParamsPluginData(version=0)
    data.session_start_info.hparams["lr"].number_value = 0.25
    data.session_start_info.hparams["amp"].bool_value = False
    data.session_start_info.hparams["layers"].list_value.extend([64, 32])
    summary = Summary()
    written = summary.value.add(tag="_hparams_/session_start_info")
    written.metadata.plugin_data.plugin_name = "hparams"
    written.metadata.plugin_data.content = data.SerializeToString()
    writer = EventFileWriter(str(tmp_path))
    writer.add_event(Event(summary=summary))
    writer.close()
    (path,) = tmp_path.iterdir()
    assert by_key(read(tensorboard, path)) == {"lr": 0.25, "amp": False, "layers": [64, 32]}


def test_a_hostile_message_in_a_sound_frame(tmp_path: Path) -> None:
    path = events(tmp_path / "e", session(SET), b"\x2a\x7f_hparams_/")
    store = read(tensorboard, path)
    assert by_key(store)["lr"] == 0.003
    assert len(store.notes) == 1
    with pytest.raises(PinspectError):
        tensorboard.Message(b"\x2a\x7f_hparams_/")
