"""Risk of the globals that a pickle names, and the calls in it that would act.

Nothing is imported or looked up: (module, name) pairs are compared with closed tables. Only exact pairs are inert; no
prefix of a name is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from inspectcli.pickles.machine import Program
from inspectcli.pickles.nodes import Dict, Global, Object, Set, shown
from inspectcli.pickles.packages import STDLIB, acts, is_class_name
from inspectcli.pickles.renamed import python_3
from inspectcli.tensors.model import Hazard


class GlobalRisk(Enum):
    """What loading a global may lead to.

    INERT builds plain data. UNKNOWN is a class or function of third-party code. DANGEROUS can run code, read files or
    open connections.
    """

    INERT = "inert"
    UNKNOWN = "unknown"
    DANGEROUS = "dangerous"


def _pairs(module: str, names: str) -> set[tuple[str, str]]:
    return {(module, name) for name in names.split()}


#: Standard library, NumPy and torch names that only build data.
INERT: frozenset[tuple[str, str]] = frozenset(
    _pairs(
        "builtins",
        "bool bytearray bytes chr complex dict float frozenset int list object range set slice str tuple type "
        "Ellipsis NotImplemented "
        "ArithmeticError AssertionError AttributeError BaseException BaseExceptionGroup BlockingIOError "
        "BrokenPipeError BufferError BytesWarning ChildProcessError ConnectionAbortedError ConnectionError "
        "ConnectionRefusedError ConnectionResetError DeprecationWarning EOFError EncodingWarning EnvironmentError "
        "Exception ExceptionGroup FileExistsError FileNotFoundError FloatingPointError FutureWarning GeneratorExit "
        "IOError ImportError ImportWarning IndentationError IndexError InterruptedError IsADirectoryError KeyError "
        "KeyboardInterrupt LookupError MemoryError ModuleNotFoundError NameError NotADirectoryError "
        "NotImplementedError OSError OverflowError PendingDeprecationWarning PermissionError ProcessLookupError "
        "RecursionError ReferenceError ResourceWarning RuntimeError RuntimeWarning StopAsyncIteration StopIteration "
        "SyntaxError SyntaxWarning SystemError SystemExit TabError TimeoutError TypeError UnboundLocalError "
        "UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError UnicodeWarning UserWarning "
        "ValueError Warning ZeroDivisionError",
    )
    | _pairs("collections", "Counter OrderedDict defaultdict deque ChainMap UserDict UserList")
    | _pairs("copyreg", "_reconstructor __newobj__ __newobj_ex__")
    | _pairs("_codecs", "encode")
    | _pairs("argparse", "Namespace")
    | _pairs("types", "SimpleNamespace MappingProxyType")
    | _pairs("pathlib", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath")
    | _pairs("pathlib._local", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath")
    | _pairs("datetime", "date datetime time timedelta timezone tzinfo")
    | _pairs("zoneinfo", "ZoneInfo")
    | _pairs("decimal", "Decimal")
    | _pairs("fractions", "Fraction")
    | _pairs("uuid", "UUID SafeUUID")
    | _pairs("enum", "Enum IntEnum Flag IntFlag StrEnum auto")
    | _pairs("functools", "partial")
    | _pairs("random", "Random")
    | _pairs("array", "array _array_reconstructor")
    | _pairs("re", "_compile")
    | _pairs("inspect", "_empty Parameter Signature _ParameterKind")
    | _pairs("ipaddress", "IPv4Address IPv6Address")
    | _pairs("numpy", "dtype ndarray")
    # Functions of other libraries that only put an object together again, as their sources show.
    | _pairs("numpy.ma.core", "_mareconstruct")
    | _pairs("numpy.random", "__RandomState_ctor")
    | _pairs("pandas._libs.internals", "_unpickle_block")
    | _pairs("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked")
    | _pairs("pandas._libs.tslibs.timestamps", "_unpickle_timestamp")
    | _pairs("pandas._libs.tslibs.timedeltas", "_timedelta_unpickle")
    | _pairs("pandas._libs.tslibs.nattype", "_nat_unpickle __nat_unpickle")
    | _pairs("pandas.core.indexes.base", "_new_Index")
    | _pairs("pytz", "_UTC _p")
    | _pairs("jax._src.array", "_reconstruct_array")
    | {
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    }
    | {(m, n) for m in ("numpy.core.numeric", "numpy._core.numeric") for n in ("_frombuffer",)}
    | {
        (f"numpy.random.{module}", name)
        for module, name in (
            ("_pickle", "__randomstate_ctor"),
            ("_pickle", "__generator_ctor"),
            ("_pickle", "__bit_generator_ctor"),
            ("_mt19937", "MT19937"),
            ("_pcg64", "PCG64"),
            ("bit_generator", "SeedSequence"),
            ("bit_generator", "__pyx_unpickle_SeedSequence"),
        )
    }
    | {("numpy", n) for n in "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()}
    | _pairs("torch", "Size device dtype Tensor Generator layout memory_format strided sparse_coo")
    | _pairs("torch._tensor", "Tensor _rebuild_from_type _rebuild_from_type_v2")
    | _pairs("torch.tensor", "_rebuild_from_type")
    | _pairs("torch.nn.parameter", "Parameter Buffer UninitializedParameter UninitializedBuffer")
    | _pairs(
        "torch._utils",
        "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state "
        "_rebuild_qtensor _rebuild_sparse_tensor _rebuild_sparse_csr_tensor _rebuild_nested_tensor "
        "_rebuild_wrapper_subclass _rebuild_meta_tensor_no_storage _rebuild_device_tensor_from_numpy "
        "_rebuild_device_tensor_from_cpu_tensor _rebuild_xla_tensor _sparse_tensors_to_validate",
    )
    | _pairs("torch._C", "_disabled_torch_function_impl")
    | _pairs("torch.serialization", "_get_layout")
    | _pairs("torch.storage", "_load_from_bytes UntypedStorage TypedStorage _UntypedStorage _TypedStorage")
    | _pairs("torch.nested._internal.nested_tensor", "_rebuild_njt NestedTensor")
    | _pairs("torch.distributed.tensor", "DTensor Shard Replicate Partial DeviceMesh")
    | _pairs("torch.distributed._tensor", "DTensor")
    | _pairs("torch.distributed._tensor.api", "DTensor")
    | _pairs("torch.distributed.tensor._dtensor_spec", "DTensorSpec TensorMeta")
    | _pairs("torch.distributed.tensor.placement_types", "Shard Replicate Partial _StridedShard")
    | _pairs("torch.distributed.device_mesh", "DeviceMesh")
    | _pairs("torch.jit._pickle", "build_intlist build_tensorlist build_doublelist build_boollist restore_type_tag")
    | _pairs("torch.jit._pickle", "build_tensor_from_id")
    | _pairs("torch.utils._ordered_set", "OrderedSet")
)

_STORAGE = re.compile(
    r"(Double|Float|Half|Long|Int|Short|Char|Byte|Bool|BFloat16|ComplexDouble|ComplexFloat"
    r"|QInt8|QInt32|QUInt8|QUInt4x2|QUInt2x4|Untyped)Storage"
)
_STORAGE_MODULES = frozenset({"torch", "torch.cuda", "torch.storage"})
_TENSOR = re.compile(r"(Double|Float|Half|Long|Int|Short|Char|Byte|Bool|BFloat16)Tensor")
#: `torch.float32`, `torch.per_tensor_affine`, `torch.strided`: attributes, never called.
_TORCH_ATTRIBUTE = re.compile(
    r"(float|bfloat|int|uint|complex|bits|qint|quint)\d\w*|bool|half|double|float|int|long|short"
    r"|per_(tensor|channel)_\w+|sparse_\w+|strided|jagged|preserve_format|contiguous_format|channels_last(_3d)?"
)
#: Classes of these packages are built with NEWOBJ and hold parameters; only their classes, and only by name.
_TORCH_CLASS = re.compile(r"torch\.(nn|optim|ao|quantization|distributions)(\.\w+)*")

_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PLAIN_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def canonical(ref: Global) -> tuple[str, str]:
    """Return (module, name) as Python 3 spells them."""
    return python_3(ref.module, ref.name)


def is_torchscript(ref: Global) -> bool:
    """Return whether this is a class that a TorchScript archive defines itself."""
    return ref.module.split(".")[0] == "__torch__"


def classify(ref: Global) -> GlobalRisk:
    """Return what a loader risks by importing and calling this name, read as Python 2 and as Python 3 spell it."""
    renamed = canonical(ref)
    if renamed != (ref.module, ref.name) and _risk(ref.module, ref.name) is GlobalRisk.DANGEROUS:
        return GlobalRisk.DANGEROUS
    return _risk(*renamed)


def _risk(module: str, name: str) -> GlobalRisk:
    if (module, name) in INERT:
        return GlobalRisk.INERT
    top = module.split(".")[0]
    torchscript = top == "__torch__"
    if not _PLAIN_NAME.fullmatch(name) or not (_PLAIN_MODULE.fullmatch(module) or module == ""):
        return GlobalRisk.INERT if torchscript and _plain_torchscript(module, name) else GlobalRisk.DANGEROUS
    if torchscript:
        return GlobalRisk.INERT
    if module in _STORAGE_MODULES and (_STORAGE.fullmatch(name) or _TENSOR.fullmatch(name)):
        return GlobalRisk.INERT
    if module == "torch.cuda" and _TENSOR.fullmatch(name):
        return GlobalRisk.INERT
    if module == "torch" and _TORCH_ATTRIBUTE.fullmatch(name):
        return GlobalRisk.INERT
    if _TORCH_CLASS.fullmatch(module) and is_class_name(name):
        return GlobalRisk.INERT
    if top in STDLIB or module == "" or acts(module, name):
        return GlobalRisk.DANGEROUS
    return GlobalRisk.UNKNOWN


def _plain_torchscript(module: str, name: str) -> bool:
    # Mangled names such as ___torch_mangle_13 stand in the module part.
    return all(_PLAIN_NAME.fullmatch(part) for part in [*module.split("."), name])


def foreign(programs: tuple[Program, ...]) -> tuple[str, ...]:
    """Return the dotted names of classes and functions that third-party code would have to supply, sorted."""
    return tuple(
        sorted(
            {g.path for p in programs for g in p.globals if classify(g) is GlobalRisk.UNKNOWN and not is_torchscript(g)}
        )
    )


def named(programs: tuple[Program, ...]) -> tuple[str, ...]:
    """Return the dotted names of all classes and functions that the pickles refer to, sorted."""
    return tuple(sorted({g.path for p in programs for g in p.globals}))


def hazards(program: Program, where: str) -> tuple[Hazard, ...]:
    """Return what would act if an unrestricted unpickler ran this program.

    Args:
        program: a pickle that was read.
        where: the place of the pickle, for the report: `archive/data.pkl`.

    Returns:
        Each distinct hazard once: calls in file order, then globals that are imported but not called.
    """
    found: dict[str, Hazard] = {}
    for trick in program.tricks:
        found.setdefault(trick, Hazard(trick, where))
    called: set[int] = set()
    for call in program.calls:
        if isinstance(call.func, Global):
            called.add(id(call.func))
        for text in _acts(call):
            found.setdefault(text, Hazard(text, f"{where}, byte {call.position:,}"))
    for ref in program.globals:
        # A loader imports the module of a global even if nothing is called.
        if id(ref) not in called and classify(ref) is GlobalRisk.DANGEROUS and not _is_harmless_mention(ref):
            text = f"{ref.path} would be imported"
            found.setdefault(text, Hazard(text, where))
    return tuple(found.values())


#: Modules of plain functions of numbers.
_MATHEMATICS = frozenset({"math", "cmath", "torch.nn.functional", "torch._C._nn", "torch.special", "torch.nn.init"})
#: The `__module__` and `__qualname__` under which functions such as `torch.sum` are pickled.
_FUNCTION_HOLDERS = frozenset({"torch._C._VariableFunctionsClass", "torch._C._VariableFunctions"})
#: Functions that models keep as values: reductions, activations, operators. None takes a path, a name or code.
_ARITHMETIC = frozenset(
    "abs absolute add addmm all allclose amax amin any arange argmax argmin argsort asinh atan avg_pool1d bmm cat "
    "ceil celu clamp clip concat concatenate conv1d conv2d conv3d cos cosh cumsum dot dropout einsum elu eq equal "
    "erf exp expm1 eye flatten floor full gather ge gelu gt hstack index_select inner isfinite isinf isnan "
    "itemgetter layer_norm le leaky_relu linear log log10 log1p log2 log_softmax logical_and logical_not "
    "logical_or logsumexp lt matmul max maximum mean median min minimum mish mm mod mul multiply ne neg negative "
    "nonzero norm not_equal ones outer permute pow power prelu prod quantile rand randn reciprocal relu relu6 "
    "relu_ reshape round rsqrt selu sigmoid sign silu sin sinh softmax softplus softsign sort split sqrt square "
    "squeeze stack std sub subtract sum tan tanh tensordot tile topk transpose tril triu true_divide truediv "
    "unique unsqueeze var vstack where zeros".split()
)


def _is_harmless_mention(ref: Global) -> bool:
    """Return whether a global is harmless if it is only kept as a value, as torchmetrics keeps `torch.sum`."""
    module, name = canonical(ref)
    top = module.split(".")[0]
    if not (_PLAIN_NAME.fullmatch(name) and _PLAIN_MODULE.fullmatch(module)):
        return False
    if module == "builtins":
        return name not in ("eval", "exec", "compile", "__import__", "open", "breakpoint", "getattr", "setattr")
    if module in _MATHEMATICS or ref.path in _FUNCTION_HOLDERS:
        return True
    if module in ("torch", "numpy", "operator", "_operator", "torch.Tensor"):
        return name in _ARITHMETIC or (top in ("torch", "numpy") and name[:1].isupper())
    return (
        top in ("typing", "abc", "dataclasses", "torch", "logging")
        and name[:1].isupper()
        and name != "FileHandler"
        and not acts(module, name)
    )


#: Functions that call one of their arguments, or a method of it: which it is, and which one are its arguments.
#: `copyreg._reconstructor(cls, base, state)` calls `base.__init__(obj, state)`.
_CALLERS: dict[tuple[str, str], tuple[int, int, bool]] = {
    ("torch._tensor", "_rebuild_from_type"): (0, 2, True),
    ("torch._tensor", "_rebuild_from_type_v2"): (0, 2, True),
    ("torch.tensor", "_rebuild_from_type"): (0, 2, True),
    ("copyreg", "_reconstructor"): (1, 2, False),
    ("numpy.random._pickle", "__randomstate_ctor"): (1, 0, False),
    ("numpy.random._pickle", "__generator_ctor"): (1, 0, False),
    ("jax._src.array", "_reconstruct_array"): (0, 1, True),
}
#: Honest files nest one in another: a parameter with attributes in a subclass.
MAX_CALLERS = 16
_CODECS = frozenset({"latin1", "latin-1", "iso-8859-1", "utf-8", "utf8", "ascii"})


def calls_made(call: Object) -> Iterator[Object]:
    """Yield a call, then the one that the called function makes of its arguments, and so on; not without end."""
    for _ in range(MAX_CALLERS + 1):
        yield call
        inner = _called_by(call)
        if inner is None:
            return
        call = inner


def _acts(call: Object) -> Iterator[str]:
    """Describe what one call would do; yields nothing if it only builds data."""
    for depth, made in enumerate(calls_made(call)):
        if depth == MAX_CALLERS:
            yield f"{made.path} would be called through more than {MAX_CALLERS} other functions"
        else:
            yield from _acts_itself(made)


def _called_by(call: Object) -> Object | None:
    """Return the call that the called function makes of its arguments; None if it makes none."""
    if not isinstance(call.func, Global):
        return None
    caller = _CALLERS.get(canonical(call.func))
    if caller is None:
        return None
    place, arguments, spread = caller
    if len(call.args) <= place or call.args[place] is None:
        return None
    given = call.args[arguments] if len(call.args) > arguments else ()
    args = given if spread and isinstance(given, tuple) else (given,)
    return Object(call.args[place], args, "reduce", call.position)


def _acts_itself(call: Object) -> Iterator[str]:
    if not isinstance(call.func, Global):
        # No honest pickler calls what another call returned, or something that is not callable.
        yield f"the result of {_describe(call.func)} would be called"
        return
    module, name = canonical(call.func)
    verdict = classify(call.func)
    if (module, name) == ("builtins", "getattr") and _names_a_member(call.args):
        return
    if (module, name) == ("_codecs", "encode"):
        if len(call.args) > 1 and call.args[1] not in _CODECS:
            yield f"text would be decoded by the codec {shown(call.args[1])}"
        return
    if (module, name) == ("builtins", "type") and len(call.args) != 1:
        yield "a class would be made while loading"
    elif verdict is GlobalRisk.DANGEROUS:
        yield f"{call.func.path} would be called{_with(call)}"
    elif call.how == "new" or is_torchscript(call.func):
        return  # only a class can be asked for a new instance
    elif verdict is GlobalRisk.UNKNOWN and not is_class_name(name):
        yield f"{call.func.path}, a function we do not know, would be called{_with(call)}"
    elif _TORCH_CLASS.fullmatch(module) and (module, name) not in INERT:
        for ref in _functions(call.args):
            yield f"{call.func.path} would be made with {ref.path}, a function we do not know, which it may call"


def _functions(args: tuple[object, ...]) -> Iterator[Global]:
    """Yield the functions of other packages among the arguments and in their tuples and lists, one level deep."""
    for arg in args[:16]:
        for item in arg[:16] if isinstance(arg, tuple | list) else (arg,):
            if isinstance(item, Global) and not is_class_name(item.name) and classify(item) is GlobalRisk.UNKNOWN:
                yield item


def _names_a_member(args: tuple[object, ...]) -> bool:
    """Return whether these are arguments of `getattr(SomeEnum, 'MEMBER')`, as enum members and nested classes need."""
    if len(args) == 2 and isinstance(args[0], Global) and args[0].path in _FUNCTION_HOLDERS:
        return args[1] in _ARITHMETIC
    return (
        len(args) == 2
        and isinstance(args[0], Global)
        and args[0].name[:1].isupper()
        and classify(args[0]) is not GlobalRisk.DANGEROUS
        and isinstance(args[1], str)
        and _PLAIN_NAME.fullmatch(args[1]) is not None
        and not args[1].startswith("_")
    )


def _describe(node: object) -> str:
    if isinstance(node, Object):
        return node.path or "a call"
    return "something that is no function"


#: Arguments that are looked at for a text to show.
_MAX_SHOWN_NODES = 64


def _with(call: Object) -> str:
    text = next(_texts(call), None)
    return "" if text is None else f" with {text.strip()[:80]!r}"


def _texts(call: Object) -> Iterator[str]:
    """Yield the strings among the first arguments of a call, in whatever they are wrapped."""
    waiting: list[object] = [*reversed(call.args[:16])]
    if call.kwargs is not None:
        waiting.insert(0, call.kwargs)
    for _ in range(_MAX_SHOWN_NODES):
        if not waiting:
            return
        node = waiting.pop()
        if isinstance(node, str):
            yield node[:1000]
        elif isinstance(node, bytes):
            yield node[:1000].decode("latin-1")
        elif isinstance(node, tuple | list):
            waiting.extend(reversed(node[:16]))
        elif isinstance(node, Dict):
            waiting.extend(reversed(node.values[:16]))
        elif isinstance(node, Set):
            waiting.extend(reversed(node.members[:16]))
        elif isinstance(node, Object):
            waiting.extend(reversed(node.args[:16]))
