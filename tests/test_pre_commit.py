"""The hooks as people get them: the real pre-commit, a real repository, an environment of their own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from support.places import FIXTURES, ROOT

from inspectcli.formats import formats
from inspectcli.formats.folder import INDEX_SUFFIX

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or importlib.util.find_spec("pre_commit") is None, reason="needs git and pre-commit"
)

#: What pip needs of this project to install it.
SOURCES = ("inspectcli", "pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml")
#: Who commits, and no settings of the machine: its PYTHONPATH would lead the hook back to this checkout.
WHO = {f"GIT_{who}_{what}": f"test@{who}.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SKIP") and not k.startswith("GIT_")},
    **WHO,
    "GIT_CONFIG_GLOBAL": os.devnull,
}


class Repository(NamedTuple):
    """A repository that uses the hooks."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> tuple[int, str]:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.returncode, done.stdout

    def must(self, *command: str) -> str:
        code, out = self.run(*command)
        assert code == 0, out
        return out

    def commit(self, *names: str) -> tuple[int, str]:
        """Copy fixtures here and commit them; on refusal nothing stays staged."""
        for name in names:
            shutil.copy(FIXTURES / name, self.folder)
        self.must("git", "add", *(Path(name).name for name in names))
        code, out = self.run("git", "commit", "-m", "models")
        if code:
            self.must("git", "reset", "-q", "--hard")
        return code, out

    def hook(self, hook: str, file: str) -> tuple[int, str]:
        run = (sys.executable, "-m", "pre_commit", "run", "--hook-stage", "manual")
        return self.run(*run, hook, "--files", file)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    base = tmp_path_factory.mktemp("pre-commit")
    here = {**ENVIRONMENT, "PRE_COMMIT_HOME": str(base / "home")}
    hooks, user = Repository(base / "hooks", here), Repository(base / "user", here)
    for made in (hooks, user):
        made.folder.mkdir()
        made.must("git", "init", "-q")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, hooks.folder / name)
    hooks.must("git", "add", "-A")
    hooks.must("git", "commit", "-q", "-m", "hooks")
    revision = hooks.must("git", "rev-parse", "HEAD").strip()
    (user.folder / ".pre-commit-config.yaml").write_text(
        "repos:\n"
        f"  - repo: {hooks.folder.as_posix()}\n"
        f"    rev: {revision}\n"
        "    hooks:\n"
        "      - id: pinspect-check\n"
        "        verbose: true\n"
        "      - id: pinspect-check-fast\n"
        "        stages: [manual]\n"
    )
    user.must("git", "add", "-A")
    user.must("git", "commit", "-q", "-m", "settings")
    user.must(sys.executable, "-m", "pre_commit", "install")
    code, out = user.run(sys.executable, "-m", "pre_commit", "install-hooks")
    if code:
        reached, _ = user.run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(base), "hatchling")
        if reached:
            pytest.skip("pip reaches no package index, so pre-commit can install no hook")
        pytest.fail(out)
    return user


def site_packages(repository: Repository) -> set[str]:
    home = Path(repository.environment["PRE_COMMIT_HOME"])
    return {path.name for path in home.glob("repo*/py_env*/**/site-packages/*")}


@pytest.mark.slow
def test_the_environment_has_pinspect_and_no_torch(repository: Repository) -> None:
    installed = site_packages(repository)
    assert {"inspectcli", "numpy", "h5py"} <= installed
    assert not {"torch", "tensorflow", "keras", "jax"} & installed


@pytest.mark.slow
def test_good_files_commit_in_one_call(repository: Repository) -> None:
    code, out = repository.commit("mlp.pt", "mlp.safetensors", "mlp_keras3.h5")
    assert code == 0, out
    assert "3 files checked" in out


@pytest.mark.slow
def test_nan_is_refused(repository: Repository) -> None:
    code, out = repository.commit("gpt2_tiny_nan.safetensors", "dtypes.safetensors")
    assert code == 1, out
    assert "error PI101  h.3.mlp.c_fc.weight: 12 NaN" in out
    assert "gpt2_tiny_nan.safetensors" not in repository.must("git", "ls-files")


@pytest.mark.slow
def test_what_is_no_checkpoint_commits(repository: Repository) -> None:
    (repository.folder / "firmware.bin").write_bytes(b"\x12\x34" * 300)
    (repository.folder / "notes.txt").write_text("not a model\n")
    repository.must("git", "add", "firmware.bin", "notes.txt")
    code, out = repository.commit("damaged/lfs_pointer.safetensors")
    assert code == 0, out


@pytest.mark.slow
def test_a_damaged_file_is_refused(repository: Repository) -> None:
    code, out = repository.commit("damaged/cut_mlp.pt")
    assert code == 1, out
    assert "at least 104 bytes are missing" in out


@pytest.mark.slow
def test_the_fast_hook_reads_no_values(repository: Repository) -> None:
    name = "gpt2_tiny_nan.safetensors"
    shutil.copy(FIXTURES / name, repository.folder)
    full, slow_out = repository.hook("pinspect-check", name)
    fast, fast_out = repository.hook("pinspect-check-fast", name)
    assert (full, fast) == (1, 0), slow_out + fast_out
    assert "Passed" in fast_out


# -- what needs no environment --------------------------------------------------------------------------

HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_the_hooks_take_models_and_nothing_else(hook: dict[str, object]) -> None:
    pattern = re.compile(str(hook["files"]))
    models = {s for f in formats() for s in f.suffixes} - {".mat", ".npy", ".tar", ".ts", INDEX_SUFFIX}
    assert [s for s in models if not pattern.search(f"runs/model{s}")] == []
    others = ("a.ts", "a.py", "a.json", "a.tar", "a.mat", "bin", "apt", "a.pt.txt", "a.h5py", "model.onnx")
    assert [name for name in others if pattern.search(name)] == []


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_the_readme_names_each_hook(hook: dict[str, object]) -> None:
    assert f"- id: {hook['id']} " in (ROOT / "README.md").read_text(encoding="utf-8")
