"""What lies beside a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspectcli.hparams.neighbors import neighbors


def beside(path: Path) -> list[str]:
    return [str(Path(found).resolve().relative_to(path.parents[1])) for found in neighbors(str(path))]


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_known_names_in_its_folder(tmp_path: Path) -> None:
    put(*(tmp_path / "m" / name for name in ("config.json", "notes.json", "a.pt", "b.pt", ".hydra/config.yaml")))
    assert beside(tmp_path / "m" / "a.pt") == ["m/config.json", "m/.hydra/config.yaml"]


@pytest.mark.parametrize("folder", ["checkpoints", "weights", "checkpoint-500"])
def test_a_folder_of_checkpoints_belongs_to_the_one_around_it(folder: str, tmp_path: Path) -> None:
    put(tmp_path / folder / "a.pt", tmp_path / "hparams.yaml")
    assert beside(tmp_path / folder / "a.pt") == ["hparams.yaml"]


def test_any_other_folder_does_not(tmp_path: Path) -> None:
    put(tmp_path / "models" / "a.pt", tmp_path / "hparams.yaml")
    assert beside(tmp_path / "models" / "a.pt") == []


def test_a_folder_that_is_a_checkpoint_holds_its_own(tmp_path: Path) -> None:
    put(tmp_path / "m" / "config.json", tmp_path / "params.json")
    assert [Path(found).name for found in neighbors(str(tmp_path / "m"))] == ["config.json"]


def test_not_itself(tmp_path: Path) -> None:
    put(tmp_path / "m" / "training_args.bin", tmp_path / "m" / "config.json")
    assert beside(tmp_path / "m" / "training_args.bin") == ["m/config.json"]
