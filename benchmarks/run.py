"""Whole-process timings, side by side: `python benchmarks/run.py [--runs N] [--dir DIR]`.

Writes GPT-2's shapes (148 tensors, 124,439,808 parameters) as .pt and .safetensors in f32, f16 and bf16 with torch, a
second model to compare with, a small one, and a sparse 8 GiB file; then runs each command in turn, A B C A B C ..., and
prints the median wall-clock seconds and the largest resident size of any process. Needs the `test` extra and 6 GB of
disk; h5diff is timed where it is installed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TORCH_SCRIPT = """
import sys, torch
for name, t in torch.load(sys.argv[1], weights_only=True).items():
    print(name, tuple(t.shape), t.mean().item(), t.std(correction=0).item(), t.min().item(), t.max().item(),
          t.isnan().sum().item(), t.isinf().sum().item())
"""


def gpt2(
    layers: int = 12, width: int = 768, vocabulary: int = 50257, context: int = 1024
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of GPT-2 small."""
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (vocabulary, width), "wpe.weight": (context, width)}
    for i in range(layers):
        for name, shape in {
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "attn.c_attn.weight": (width, 3 * width),
            "attn.c_attn.bias": (3 * width,),
            "attn.c_proj.weight": (width, width),
            "attn.c_proj.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
            "mlp.c_fc.weight": (width, 4 * width),
            "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (4 * width, width),
            "mlp.c_proj.bias": (width,),
        }.items():
            shapes[f"h.{i}.{name}"] = shape
    return shapes | {"ln_f.weight": (width,), "ln_f.bias": (width,)}


def write_models(folder: Path) -> None:
    """What is timed; kept from run to run. In a process of its own: a child's peak memory begins with its parent's."""
    if (folder / "written").exists():
        return
    import h5py
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    state = {name: torch.randn(shape) * 0.02 for name, shape in gpt2().items()}
    torch.save(state, folder / "gpt2.pt")
    save_file(state, str(folder / "gpt2.safetensors"))
    # As many bytes as the f32 file: twice the values.
    for dtype, name in ((torch.float16, "f16"), (torch.bfloat16, "bf16")):
        wide = {n: torch.cat([t, t]).to(dtype) for n, t in state.items()}
        save_file(wide, str(folder / f"gpt2_{name}.safetensors"))
    # For comparing: every value of a second model differs from the first's.
    save_file({n: t + 1e-3 * torch.randn(t.shape) for n, t in state.items()}, str(folder / "tuned.safetensors"))
    shutil.copy(folder / "gpt2.safetensors", folder / "copy.safetensors")
    for model in ("gpt2", "tuned"):
        with h5py.File(folder / f"{model}.h5", "w") as file:
            for name, tensor in load_file(str(folder / f"{model}.safetensors")).items():
                file[name.replace(".", "/")] = tensor.numpy()
    small = {n: t for n, t in state.items() if t.numel() < 4000}
    torch.save(small, folder / "small.pt")
    with h5py.File(folder / "small.h5", "w") as file:
        for name, tensor in small.items():
            file[name.replace(".", "/")] = tensor.numpy()
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 31], "data_offsets": [0, 1 << 33]}}).encode()
    with open(folder / "sparse_8GiB.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        out.truncate(8 + len(header) + (1 << 33))
    (folder / "written").touch()


def measure(command: list[str]) -> tuple[float, float]:
    """(seconds, MiB of the largest process) of one run."""
    start = time.perf_counter()
    # As after `pip install`, which compiles: nobody's start-up should include the compiler.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    # 1 says that something was found: for a comparison, that the files differ.
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"{' '.join(command)} failed: {process.stderr.read().decode() if process.stderr else ''}")
    return seconds, usage.ru_maxrss / (1 if sys.platform != "darwin" else 1024) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "pinspect-benchmark")
    args = parser.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    writer = multiprocessing.get_context("spawn").Process(target=write_models, args=(args.dir,))
    writer.start()
    writer.join()
    pinspect = [sys.executable, "-m", "inspectcli"]
    f = {name: str(args.dir / name) for name in os.listdir(args.dir)}
    cases = {
        "--help": [*pinspect, "--help"],
        "structure only, .pt 475 MB": [*pinspect, "--no-stats", f["gpt2.pt"]],
        "structure only, .safetensors 475 MB": [*pinspect, "--no-stats", f["gpt2.safetensors"]],
        "full statistics, .pt f32 475 MB": [*pinspect, f["gpt2.pt"]],
        "full statistics, .safetensors f32 475 MB": [*pinspect, f["gpt2.safetensors"]],
        "full statistics, .safetensors f16 475 MB": [*pinspect, f["gpt2_f16.safetensors"]],
        "full statistics, .safetensors bf16 475 MB": [*pinspect, f["gpt2_bf16.safetensors"]],
        "everything, small .pt": [*pinspect, f["small.pt"]],
        "everything, small .h5 (with its child process)": [*pinspect, f["small.h5"]],
        "full statistics, sparse 8 GiB": [*pinspect, f["sparse_8GiB.safetensors"]],
        "diff, two f32 .safetensors, all values differ": [
            *pinspect,
            "diff",
            f["gpt2.safetensors"],
            f["tuned.safetensors"],
        ],
        "diff, two f32 .safetensors, identical": [*pinspect, "diff", f["gpt2.safetensors"], f["copy.safetensors"]],
        "diff, .pt and .safetensors, identical": [*pinspect, "diff", f["gpt2.pt"], f["gpt2.safetensors"]],
        "torch.load + mean/std/min/max/isnan/isinf": [sys.executable, "-c", TORCH_SCRIPT, f["gpt2.pt"]],
    }
    if h5diff := shutil.which("h5diff"):  # Debian's hdf5-tools
        cases["h5diff on the same tensors, all values differ"] = [h5diff, "-q", f["gpt2.h5"], f["tuned.h5"]]
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for turn in range(args.runs + 1):
        for name, command in cases.items():
            if "8 GiB" in name and turn > 3:
                continue
            result = measure(command)
            if turn:  # the first round warms the page cache
                seen[name].append(result)
    print(f"{'':50} {'seconds':>8} {'min':>7} {'max':>7} {'MiB':>6}")
    for name, runs in seen.items():
        seconds = [s for s, _ in runs]
        middle, peak = statistics.median(seconds), max(m for _, m in runs)
        print(f"{name:50} {middle:8.3f} {min(seconds):7.3f} {max(seconds):7.3f} {peak:6.0f}")
    full = statistics.median(s for s, _ in seen["full statistics, .pt f32 475 MB"])
    torch_time = statistics.median(s for s, _ in seen["torch.load + mean/std/min/max/isnan/isinf"])
    print(f"torch script / pinspect on the same .pt: {torch_time / full:.1f} times")
    print(f"{os.cpu_count()} cores, page size {resource.getpagesize():,}")


if __name__ == "__main__":
    main()
