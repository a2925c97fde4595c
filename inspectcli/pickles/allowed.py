"""The globals that `torch.load(weights_only=True)` takes: `torch._weights_only_unpickler`, torch 2.13.

It is the default since 2.6. The list of another version may be a little shorter or longer.
"""

from __future__ import annotations

import re

_NAMES = frozenset(
    """_codecs.encode builtins.bytearray builtins.complex builtins.set collections.Counter collections.OrderedDict
    torch.Size torch.Tensor torch.device torch._tensor._rebuild_from_type_v2 torch.nn.parameter.Parameter
    torch.serialization._get_layout torch.storage.TypedStorage torch.storage.UntypedStorage""".split()
)
_UTILS = frozenset(
    """device_tensor_from_cpu_tensor device_tensor_from_numpy meta_tensor_no_storage nested_tensor parameter
    parameter_with_state qtensor sparse_tensor tensor tensor_v2 tensor_v3 wrapper_subclass""".split()
)
_NUMBER = "BFloat16|Byte|Char|Double|Float|Half|Int|Long|Short"
_PATTERN = re.compile(
    rf"torch\.(cuda\.)?({_NUMBER}|Bool|ComplexDouble|ComplexFloat)Storage"
    rf"|torch\.(Q(Int32|Int8|UInt2x4|UInt4x2|UInt8)Storage)"
    rf"|torch\.(cuda\.)?({_NUMBER}|Bool)Tensor|torch\.(cuda\.)?sparse\.({_NUMBER})Tensor"
    r"|torch\.(u?int\d+|float(16|32|64|8_\w+|4_\w+)|bfloat16|complex\d+|bool|bits\w+|qu?int\w+|per_(tensor|channel)_\w+)"
)
#: Modules of Python 2, as pickles of protocol 2 spell them.
_RENAMED = {"__builtin__": "builtins"}


def is_allowed(path: str) -> bool:
    """Whether torch takes this global without being asked: `module.name`, as the file spells it."""
    module, _, name = path.rpartition(".")
    path = f"{_RENAMED.get(module, module)}.{name}"
    prefix = "torch._utils._rebuild_"
    if path.startswith(prefix):
        return path.removeprefix(prefix) in _UTILS
    return path in _NAMES or _PATTERN.fullmatch(path) is not None
