"""Files to look for beside a checkpoint: the configs of known tools, here and around a folder `checkpoints/`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

#: Folders whose files belong to the run around them.
BELONGS = re.compile(
    r"""\.hydra|weights|checkpoints?|ckpts?|models?_?ckpts?|checkpoint-\d+|vis_data|\d{8}_\d{6}|global_step\d+
    |(epoch|step)[_=-].*|dvclive|mlruns|wandb|\d{10}\.\d+""",
    re.VERBOSE,
)
_NAMES = (
    "config.json", "generation_config.json", "adapter_config.json", "training_args.bin", "trainer_state.json",
    "hparams.yaml", "args.yaml", "config.yaml", "ds_config.json", "params.json", "params.yaml", "dvc.lock",
    ".hydra/config.yaml", ".hydra/overrides.yaml", "README.md",
)  # fmt: skip


def neighbors(path: str) -> Iterator[str]:
    """Files of these names beside a checkpoint, which is a file or a folder of its own; not the checkpoint itself."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    folders = [folder]
    if BELONGS.fullmatch(os.path.basename(os.path.abspath(folder or "."))):
        folders.append(os.path.join(folder, os.pardir))
    for place in folders:
        for name in _NAMES:
            candidate = os.path.join(place, name)
            if os.path.isfile(candidate) and not os.path.samefile(candidate, path):
                yield candidate
