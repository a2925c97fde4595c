"""Packages whose functions and classes act: run, compile, fetch, read or write. One that is missing here is unknown."""

from __future__ import annotations

#: Top-level modules of Python's library, of 3.8 to 3.15 on every system: not only of the one that runs.
STDLIB = frozenset(
    """
    __future__ __phello__ _abc _aix_support _android_support _apple_support _ast _ast_unparse _asyncio _bisect
    _blake2 _bootlocale _bootsubprocess _bz2 _codecs _codecs_cn _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr
    _codecs_tw _collections _collections_abc _colorize _compat_pickle _compression _contextvars _crypt _csv
    _ctypes _curses _curses_panel _datetime _dbm _decimal _distutils_hack _dummy_thread _dummy_threading
    _elementtree _frozen_importlib _frozen_importlib_external _functools _gdbm _hashlib _heapq _hmac _imp
    _interpchannels _interpqueues _interpreters _io _ios_support _json _locale _lsprof _lzma _markupbase _md5
    _msi _multibytecodec _multiprocessing _opcode _opcode_metadata _operator _osx_support _overlapped _pickle
    _posixshmem _posixsubprocess _py_abc _py_warnings _pydatetime _pydecimal _pyio _pylong _pyrepl _queue
    _random _remote_debugging _scproxy _sha1 _sha2 _sha256 _sha3 _sha512 _signal _sitebuiltins _socket _sqlite3
    _sre _ssl _stat _statistics _string _strptime _struct _suggestions _symtable _sysconfig _testbuffer
    _testcapi _testinternalcapi _testlimitedcapi _testmultiphase _thread _threading_local _tkinter _tokenize
    _tracemalloc _types _typing _uuid _warnings _weakref _weakrefset _winapi _wmi _xxinterpchannels
    _xxsubinterpreters _zoneinfo _zstd abc aifc annotationlib antigravity argparse array ast asynchat asyncio
    asyncore atexit audioop base64 bdb binascii binhex bisect builtins bz2 cProfile calendar cgi cgitb chunk
    cmath cmd code codecs codeop collections colorsys commands compileall compression concurrent configparser
    contextlib contextvars copy copyreg crypt csv ctypes curses dataclasses datetime dbm decimal difflib dis
    distutils doctest dummy_thread dummy_threading easy_install email encodings ensurepip enum errno
    faulthandler fcntl filecmp fileinput fnmatch formatter fractions ftplib functools gc genericpath getopt
    getpass gettext glob graphlib grp gzip hashlib heapq hmac html http idlelib imaplib imghdr imp importlib
    inspect io ipaddress itertools json keyword lib2to3 linecache locale logging lzma macpath macurl2path
    mailbox mailcap marshal math mimetypes mmap modulefinder msilib msvcrt multiprocessing netrc nis nntplib nt
    ntpath nturl2path numbers opcode operator optparse os ossaudiodev parser pathlib pdb pickle pickletools
    pipes pkgutil platform plistlib poplib posix posixpath pprint profile profiling pstats pty pwd py_compile
    pyclbr pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter runpy sched
    secrets select selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket socketserver spwd
    sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string stringprep struct subprocess sunau
    symbol symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios test textwrap this
    threading time timeit tkinter token tokenize tomllib trace traceback tracemalloc tty turtle turtledemo types
    typing unicodedata unittest urllib uu uuid venv warnings wave weakref webbrowser winreg winsound wsgiref
    xdrlib xml xmlrpc zipapp zipfile zipimport zlib zoneinfo
    """.split()
)

#: Packages whose functions fetch, load, compile or run things; their classes can be data.
ACTING_FUNCTIONS = frozenset(
    "torch numpy scipy pandas joblib sklearn tensorflow keras jax sympy transformers hydra".split()
)

#: Packages of which even a class acts when it is made: shells, templates, networks, loaders, compilers.
ACTING_CLASSES = frozenset(
    "IPython aiohttp asyncssh asyncpg billiard boto boto3 botocore celery cffi cherrypy cloudpickle cppyy cython "
    "dill django docker docutils execnet fabric fastapi flask fsspec gcsfs gdown git gradio grpc httplib2 httpx "
    "huggingface_hub invoke ipykernel jinja2 jsonpickle jupyter_client kazoo kubernetes loky mako modelscope "
    "multiprocess nbconvert nbformat nose numba numexpr paramiko pathos pexpect pip pipx pkg_resources playwright "
    "plumbum pooch psycopg psycopg2 ptyprocess pycurl pymongo pymysql pytest _pytest pyximport redis requests "
    "requests_html rpyc ruamel s3fs scapy scrapy selenium setuptools sh smart_open sqlalchemy starlette streamlit "
    "Pyro4 Pyro5 pyppeteer tblib tornado twisted urllib3 uvicorn virtualenv waitress webdataset websocket websockets "
    "werkzeug wget wheel win32api win32com xmlrpclib yaml zmq".split()
)

#: Modules of torch and NumPy whose classes run, compile, open or connect too.
ACTING_MODULES = (
    "torch._dynamo", "torch._export", "torch._inductor", "torch._jit_internal", "torch.backends",
    "torch.classes", "torch.distributed.elastic", "torch.distributed.launcher", "torch.distributed.rpc", "torch.export",
    "torch.fx.graph_module", "torch.hub", "torch.jit", "torch.library", "torch.multiprocessing", "torch.ops",
    "torch.package", "torch.testing", "torch.utils.bottleneck", "torch.utils.cpp_extension", "torch.utils.tensorboard",
    "numpy.distutils", "numpy.f2py", "numpy.lib._datasource", "numpy.lib.npyio", "numpy.testing", "numpy.ctypeslib",
)  # fmt: skip
#: Classes of other modules that do so.
ACTING_NAMES = frozenset(
    {
        ("torch", "PyTorchFileReader"), ("torch", "PyTorchFileWriter"), ("torch._C", "CompilationUnit"),
        ("torch._C", "PyTorchFileReader"), ("torch._C", "PyTorchFileWriter"), ("torch.distributed", "FileStore"),
        ("torch.distributed", "TCPStore"), ("torch.distributed", "HashStore"), ("numpy", "DataSource"),
        ("pandas", "ExcelFile"), ("pandas", "ExcelWriter"), ("pandas", "HDFStore"),
        ("pandas.io.pytables", "HDFStore"), ("pandas.io.excel._base", "ExcelFile"),
    }
)  # fmt: skip


def acts(module: str, name: str) -> bool:
    """Return whether a class or function of this name is known to act when it is called."""
    top = module.partition(".")[0]
    if top in ACTING_CLASSES or (module, name) in ACTING_NAMES or module.startswith(ACTING_DOTTED):
        return True
    return module in ACTING_MODULES or (top in ACTING_FUNCTIONS and not name[:1].isupper())


ACTING_DOTTED = tuple(module + "." for module in ACTING_MODULES)


def is_class_name(name: str) -> bool:
    """Return whether a name is spelled as a class is: `Config`, `_Config`."""
    return name.lstrip("_")[:1].isupper()
