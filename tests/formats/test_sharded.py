"""Shards read as one checkpoint; an index can neither lie about them nor lead out of its folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from inspectcli.commands.inspect.run import inspect_path
from inspectcli.errors import (
    DamagedFileError,
    LimitError,
    NotReadableError,
    PinspectError,
    TruncatedFileError,
    UnsafeFileError,
)
from inspectcli.formats import open_checkpoint
from inspectcli.tensors.model import Defect, aliases

Array = np.ndarray[Any, Any]

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
TENSORS: dict[str, dict[str, Array]] = {
    FIRST: {"embed.weight": np.arange(12, dtype=np.float32).reshape(4, 3), "a.bias": np.ones(3, np.float16)},
    SECOND: {"head.weight": np.arange(6, dtype=np.float64).reshape(2, 3), "n": np.array(7)},
}
MAP = {name: shard for shard, tensors in TENSORS.items() for name in tensors}
TOTAL = sum(a.nbytes for tensors in TENSORS.values() for a in tensors.values())


def folder(path: Path, weight_map: object = MAP, **metadata: object) -> Path:
    """A Hugging Face model folder."""
    path.mkdir(parents=True, exist_ok=True)
    for shard, tensors in TENSORS.items():
        safetensors.numpy.save_file(tensors, path / shard, {"format": "pt"})
    index(path, {"metadata": {"total_size": TOTAL} | metadata, "weight_map": weight_map})
    (path / "config.json").write_text('{"model_type": "x"}')
    (path / "tokenizer.json").write_text("{}")
    return path


def index(path: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (path / INDEX).write_text(text)


@pytest.mark.parametrize("named", ["", INDEX])
def test_all_shards_are_one_checkpoint(named: str, tmp_path: Path) -> None:
    made = open_checkpoint(folder(tmp_path) / named)
    wanted = {name: array for shard in TENSORS for name, array in safetensors.numpy.load_file(tmp_path / shard).items()}
    assert {t.name for t in made} == set(wanted)
    for tensor in made:
        np.testing.assert_array_equal(tensor.numpy(), wanted[tensor.name], strict=True)
    assert made.format == "safetensors-sharded"
    assert made.path == str(tmp_path / INDEX)
    assert made.size == sum((tmp_path / shard).stat().st_size for shard in TENSORS)
    assert made.files == (str(tmp_path / FIRST), str(tmp_path / SECOND))
    assert made.metadata == {"shards": 2, "total_size": TOTAL, "shard_format": "safetensors"}
    assert made.notes == ()
    assert made.hazards == ()


def test_the_report_counts_the_tensors_of_all_shards(tmp_path: Path) -> None:
    report = inspect_path(str(folder(tmp_path)))
    assert report.error is None
    assert report.totals is not None
    assert report.totals.parameters == 12 + 3 + 6 + 1
    assert report["head.weight"].stats is not None
    assert report["head.weight"].stats.mean == 2.5


def test_the_current_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder(tmp_path))
    assert len(open_checkpoint(".")) == len(open_checkpoint(INDEX)) == 4


def test_shards_of_torch_are_read_too(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.weight": torch.ones(4, dtype=torch.bfloat16)}
    shards = {name: f"pytorch_model-0000{i}-of-00002.bin" for i, name in enumerate(state, 1)}
    for name, shard in shards.items():
        torch.save({name: state[name]}, tmp_path / shard)
    text = json.dumps({"metadata": {"total_size": 32}, "weight_map": shards})
    (tmp_path / "pytorch_model.bin.index.json").write_text(text)
    made = open_checkpoint(tmp_path)
    assert made.format == "torch-sharded"
    assert made.notes == ()
    assert [t.name for t in made] == list(state)
    for tensor in made:
        np.testing.assert_array_equal(tensor.numpy(), state[tensor.name].float().numpy())


def test_tensors_of_two_shards_are_never_tied(tmp_path: Path) -> None:
    # Every shard has a storage "0", and what described one shard is gone when the next one is read.
    torch = pytest.importorskip("torch")
    shards = {f"layer{i}.weight": f"pytorch_model-{i + 1:05}-of-00040.bin" for i in range(40)}
    for name, shard in shards.items():
        torch.save({name: torch.ones(3)}, tmp_path / shard)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    made = open_checkpoint(tmp_path)
    assert aliases(made.tensors) == {}
    assert [ref.storage for ref in open_checkpoint(tmp_path)] == [ref.storage for ref in made]


# -- index and shards that do not agree -----------------------------------------------------------------


def test_an_index_that_is_right_has_no_defect(tmp_path: Path) -> None:
    assert open_checkpoint(folder(tmp_path)).defects == ()


def test_a_tensor_that_is_not_in_its_shard_is_a_mismatch(tmp_path: Path) -> None:
    made = open_checkpoint(folder(tmp_path, MAP | {"ghost.weight": FIRST}))
    assert made.defects == (
        Defect(
            "index-mismatch",
            f"{FIRST} lacks 1 tensor that the index places in it: ghost.weight",
            {"shard": FIRST, "tensors": 1},
            ("ghost.weight",),
        ),
    )
    assert len(made) == 4


def test_a_tensor_in_another_shard_than_said_is_one_mismatch(tmp_path: Path) -> None:
    made = open_checkpoint(folder(tmp_path, MAP | {"n": FIRST}))
    assert made.defects == (
        Defect(
            "index-mismatch",
            f"1 tensor found in {SECOND}, expected by the index in {FIRST}: n",
            {"shard": SECOND, "expected": FIRST, "tensors": 1},
            ("n",),
        ),
    )


def test_a_tensor_that_the_index_does_not_name_is_listed_all_the_same(tmp_path: Path) -> None:
    made = open_checkpoint(folder(tmp_path, {k: v for k, v in MAP.items() if k != "a.bias"}))
    assert made.defects == (
        Defect(
            "not-in-index",
            f"{FIRST} holds 1 tensor that the index does not name: a.bias",
            {"shard": FIRST, "tensors": 1},
            ("a.bias",),
        ),
    )
    assert made["a.bias"].shape == (3,)


def test_a_tensor_that_two_shards_hold_is_named_with_both(tmp_path: Path) -> None:
    path = folder(tmp_path)
    safetensors.numpy.save_file(TENSORS[FIRST] | {"n": np.array(7)}, path / FIRST)
    made = open_checkpoint(path)
    assert [(d.what, d.tensors) for d in made.defects] == [("not-in-index", ("n",)), ("total-size", ())]
    assert made.defects[0].message == (
        f"{FIRST} holds 1 tensor that the index places in another shard, which holds them too: n"
    )


def test_a_shard_beside_those_of_the_index_is_extra(tmp_path: Path) -> None:
    path = folder(tmp_path)
    shutil.copy(path / FIRST, path / "model-00001-of-00003.safetensors")
    assert open_checkpoint(path).defects == (
        Defect(
            "extra-shard",
            "1 of the shards in the folder is not in the index: model-00001-of-00003.safetensors",
            {"extra": 1, "indexed": 2, "shards": ["model-00001-of-00003.safetensors"]},
        ),
    )


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model-00001-of-00002.bin",  # the same model for torch
        "model.fp16-00001-of-00002.safetensors",  # a variant
        "consolidated-00001-of-00002.safetensors",
        "model.safetensors",
    ],
)
def test_other_models_in_the_folder_are_not_extra_shards(name: str, tmp_path: Path) -> None:
    path = folder(tmp_path)
    shutil.copy(path / FIRST, path / name)
    assert open_checkpoint(path / INDEX).defects == ()


@pytest.mark.parametrize("total", [0, TOTAL - 1, TOTAL + 1, 10**15])
def test_a_wrong_total_is_a_defect(total: int, tmp_path: Path) -> None:
    made = open_checkpoint(folder(tmp_path, total_size=total))
    assert made.defects == (
        Defect(
            "total-size",
            f"the index says {total:,} bytes in all, the shards hold {TOTAL:,}",
            {"declared": total, "held": TOTAL},
        ),
    )


@pytest.mark.parametrize("total", [None, "82", 1.5, True])
def test_a_total_that_is_no_number_is_no_claim(total: object, tmp_path: Path) -> None:
    assert open_checkpoint(folder(tmp_path, total_size=total)).defects == ()


@pytest.mark.parametrize("total", [48, 96])
def test_a_total_may_count_tied_tensors_once_or_each_time(total: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weight, shard = torch.ones(4, 3), "pytorch_model-00001-of-00001.bin"
    torch.save({"embed.weight": weight, "head.weight": weight}, tmp_path / shard)
    names = dict.fromkeys(("embed.weight", "head.weight"), shard)
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": names})
    (tmp_path / "pytorch_model.bin.index.json").write_text(text)
    assert open_checkpoint(tmp_path).defects == ()


# -- shards that are missing or damaged -----------------------------------------------------------------


def test_a_missing_shard_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    (folder(tmp_path) / SECOND).unlink()
    made = open_checkpoint(tmp_path)
    assert made.defects == (
        Defect(
            "missing-shard",
            f"the shard {SECOND} is missing: found 1 of the 2 that the index names; 2 tensors without values",
            {"shard": SECOND, "found": 1, "expected": 2, "tensors": 2},
            ("head.weight", "n"),
        ),
    )
    assert made["head.weight"].problem == f"its shard {SECOND} is missing"
    np.testing.assert_array_equal(made["a.bias"].numpy(), TENSORS[FIRST]["a.bias"])


def test_a_model_without_one_of_its_shards_was_not_read(tmp_path: Path) -> None:
    (folder(tmp_path) / SECOND).unlink()
    report = inspect_path(str(tmp_path))
    assert report.error is not None
    assert report.error.message == f"head.weight: its shard {SECOND} is missing; and 1 more tensor"
    assert report.totals is not None
    assert report.totals.parameters == 12 + 3


def test_without_any_shard_there_is_no_checkpoint(tmp_path: Path) -> None:
    path = folder(tmp_path)
    for shard in (FIRST, SECOND):
        (path / shard).unlink()
    with pytest.raises(NotReadableError) as caught:
        open_checkpoint(tmp_path)
    assert caught.value.message == f"2 of 2 shards are missing: {FIRST}, {SECOND}"
    assert caught.value.hint == "download them into the same folder"
    assert caught.value.path == str(tmp_path / INDEX)


def test_many_missing_shards_are_counted(tmp_path: Path) -> None:
    names = {f"t{i}": f"model-{i:05}-of-00009.safetensors" for i in range(1, 10)}
    with pytest.raises(NotReadableError, match=r"9 of 9 shards are missing: model-00001.* and 6 more "):
        open_checkpoint(folder(tmp_path, names))


def test_a_cut_shard_is_named(tmp_path: Path) -> None:
    shard = folder(tmp_path) / SECOND
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(TruncatedFileError, match="5 bytes are missing") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.path == str(shard)


def test_a_shard_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (folder(tmp_path) / FIRST).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(PinspectError, match="Git LFS pointer") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.path == str(tmp_path / FIRST)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_shard_that_is_a_fifo_is_refused(tmp_path: Path) -> None:
    (folder(tmp_path) / FIRST).unlink()
    os.mkfifo(tmp_path / FIRST)
    with pytest.raises(NotReadableError, match="FIFO"):
        open_checkpoint(tmp_path)


# -- names that lead elsewhere --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../model.safetensors", "..", "sub/model.safetensors", "/etc/passwd", "..\\model.safetensors", "C:model.bin",
     "C:\\model.bin", "\\\\server\\share", "http://example.org/x.safetensors", "file://x", ".hidden.safetensors", "",
     "a\0b", "./model.safetensors"],
)  # fmt: skip
def test_a_shard_outside_of_the_folder_is_unsafe(name: str, tmp_path: Path) -> None:
    safetensors.numpy.save_file(TENSORS[FIRST], tmp_path / "model.safetensors")
    with pytest.raises(UnsafeFileError, match="names a file outside its folder"):
        open_checkpoint(folder(tmp_path / "repo", MAP | {"x": name}))


def linked(path: Path, target: Path | str) -> Path:
    (path / FIRST).unlink(missing_ok=True)
    (path / FIRST).symlink_to(target)
    return path


def test_a_link_out_of_the_folder_is_unsafe(tmp_path: Path) -> None:
    safetensors.numpy.save_file(TENSORS[FIRST], tmp_path / "outside.safetensors")
    with pytest.raises(UnsafeFileError, match="leads out of its folder"):
        open_checkpoint(linked(folder(tmp_path / "repo"), "../outside.safetensors"))
    with pytest.raises(UnsafeFileError):
        open_checkpoint(linked(tmp_path / "repo", tmp_path / "outside.safetensors"))


def test_a_link_to_a_folder_with_the_same_beginning_is_unsafe(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    safetensors.numpy.save_file(TENSORS[FIRST], tmp_path / "repository" / "x")
    with pytest.raises(UnsafeFileError):
        open_checkpoint(linked(folder(tmp_path / "repo"), "../repository/x"))


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    path = folder(tmp_path)
    shutil.move(path / FIRST, path / "data.bin")
    assert len(open_checkpoint(linked(path, "data.bin"))) == 4


def test_the_blobs_of_a_hugging_face_cache_are_followed(tmp_path: Path) -> None:
    snapshot = folder(tmp_path / "models--x" / "snapshots" / "abc")
    (tmp_path / "models--x" / "blobs").mkdir()
    for shard in TENSORS:
        shutil.move(snapshot / shard, tmp_path / "models--x" / "blobs" / shard[:11])
        (snapshot / shard).symlink_to(f"../../blobs/{shard[:11]}")
    assert len(open_checkpoint(snapshot)) == 4


def test_the_blobs_of_another_repository_are_unsafe(tmp_path: Path) -> None:
    snapshot = folder(tmp_path / "models--x" / "snapshots" / "abc")
    (tmp_path / "models--y" / "blobs").mkdir(parents=True)
    shutil.move(snapshot / FIRST, tmp_path / "models--y" / "blobs" / "1")
    with pytest.raises(UnsafeFileError):
        open_checkpoint(linked(snapshot, "../../../models--y/blobs/1"))


def test_a_link_to_nothing_is_not_readable(tmp_path: Path) -> None:
    with pytest.raises(NotReadableError):
        open_checkpoint(linked(folder(tmp_path), "nothing"))


# -- indexes that are none ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "error_class", "message"),
    [
        ({}, DamagedFileError, "the index has no weight_map"),
        ({"weight_map": {}}, DamagedFileError, "the index has no weight_map"),
        ({"weight_map": []}, DamagedFileError, "the index has no weight_map"),
        ({"weight_map": None}, DamagedFileError, "the index has no weight_map"),
        ({"weight_map": {"a": 1}}, DamagedFileError, "maps 'a' to a int, expected a file name"),
        ({"weight_map": {"a": [FIRST]}}, DamagedFileError, "maps 'a' to a list"),
        ({"weight_map": {"a": None}}, DamagedFileError, "maps 'a' to a NoneType"),
        ('{"weight_map": {"a": "x", "a": "y"}}', DamagedFileError, "names 'a' twice"),
        ('{"weight_map": ', DamagedFileError, "the index is not JSON"),
        ('{"a":' + "[" * 500, LimitError, "nested more than"),
        ({"weight_map": {str(i): f"s{i}" for i in range(10_001)}}, LimitError, "more than 10,000 files"),
    ],
)
def test_a_bad_index_is_refused_with_its_reason(
    content: object, error_class: type[PinspectError], message: str, tmp_path: Path
) -> None:
    index(folder(tmp_path), content)
    with pytest.raises(error_class) as caught:
        open_checkpoint(tmp_path)
    assert message in caught.value.message
    assert caught.value.path == str(tmp_path / INDEX)
