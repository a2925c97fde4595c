"""Files to look for beside a checkpoint: the configs of known tools, here and around a folder `checkpoints/`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from inspectcli.storage.location import Location

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


def neighbors(location: Location) -> Iterator[Location]:
    """Files of these names beside a checkpoint, which is a file or a folder of its own; not the checkpoint itself."""
    folder = location if location.is_folder() else location.parent
    itself = location.identity()
    for place in (folder, *([folder.join("..")] if BELONGS.fullmatch(folder.name) else ())):
        for name in _NAMES:
            candidate = place.join(name)
            if candidate.is_file() and candidate.identity() != itself:
                yield candidate
