"""A folder that no format has as its own: what is called like a checkpoint is one, if there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from inspectcli.errors import NotReadableError
from inspectcli.formats import formats, open_checkpoint
from inspectcli.formats.discovery import models_in
from inspectcli.formats.folder import model_suffixes
from inspectcli.storage import locate

TENSORS = {"w": np.arange(6.0)}


def names(folder: Path) -> list[str]:
    return [place.name for place in models_in(locate(folder))]


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "optimizer.pt").write_bytes(b"")
    with pytest.raises(NotReadableError, match="a directory without a model file") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.path == str(tmp_path)
    assert caught.value.hint


def test_a_folder_with_several_models_names_them(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        safetensors.numpy.save_file(TENSORS, tmp_path / name)
    with pytest.raises(NotReadableError, match=r"a directory with 2 models: a\.safetensors, b\.safetensors"):
        open_checkpoint(tmp_path)


def test_a_folder_with_one_model_is_that_model(tmp_path: Path) -> None:
    safetensors.numpy.save_file(TENSORS, tmp_path / "best.safetensors")
    (tmp_path / "optimizer.bin").write_bytes(b"not read")
    made = open_checkpoint(tmp_path)
    assert made.path == str(tmp_path / "best.safetensors")
    assert made.location == locate(tmp_path / "best.safetensors")
    assert {t.name for t in made} == set(TENSORS)


def test_shards_count_only_where_nothing_is_whole(tmp_path: Path) -> None:
    shards = [f"part-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name in shards:
        (tmp_path / name).touch()
    assert names(tmp_path) == shards
    (tmp_path / "whole.pt").touch()
    assert names(tmp_path) == ["whole.pt"]


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.bin", "training_args.bin", "rng_state_0.pth", "a.pkl", "a.txt"]
)
def test_what_is_no_model_by_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert names(tmp_path) == []


def test_the_suffixes_are_those_of_the_formats() -> None:
    assert set(model_suffixes()) == {suffix for known in formats() for suffix in known.suffixes} - {".pkl"}


def test_a_missing_folder_is_not_readable(tmp_path: Path) -> None:
    with pytest.raises(NotReadableError, match="no such file or directory"):
        open_checkpoint(tmp_path / "nothing")
