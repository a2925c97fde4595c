"""Names of Python 2 that an unpickler reads as others: in pickles of protocols 0 to 2, by `pickle`'s own tables.

    https://github.com/python/cpython/blob/v3.13.0/Lib/_compat_pickle.py
They are the same in Python 3.8 to 3.15. The protocol is not asked: a pickle may state several, and outside these tables
the old modules do not exist.
"""

from __future__ import annotations


def _table(text: str) -> dict[str, str]:
    return dict(line.split() for line in text.strip().splitlines())


_MODULES = _table("""
__builtin__ builtins
copy_reg copyreg
Queue queue
SocketServer socketserver
ConfigParser configparser
repr reprlib
tkFileDialog tkinter.filedialog
tkSimpleDialog tkinter.simpledialog
tkColorChooser tkinter.colorchooser
tkCommonDialog tkinter.commondialog
Dialog tkinter.dialog
Tkdnd tkinter.dnd
tkFont tkinter.font
tkMessageBox tkinter.messagebox
ScrolledText tkinter.scrolledtext
Tkconstants tkinter.constants
Tix tkinter.tix
ttk tkinter.ttk
Tkinter tkinter
markupbase _markupbase
_winreg winreg
thread _thread
dummy_thread _dummy_thread
dbhash dbm.bsd
dumbdbm dbm.dumb
dbm dbm.ndbm
gdbm dbm.gnu
xmlrpclib xmlrpc.client
SimpleXMLRPCServer xmlrpc.server
httplib http.client
htmlentitydefs html.entities
HTMLParser html.parser
Cookie http.cookies
cookielib http.cookiejar
BaseHTTPServer http.server
test.test_support test.support
commands subprocess
urlparse urllib.parse
robotparser urllib.robotparser
urllib2 urllib.request
anydbm dbm
_abcoll collections.abc
cPickle pickle
_elementtree xml.etree.ElementTree
FileDialog tkinter.filedialog
SimpleDialog tkinter.simpledialog
DocXMLRPCServer xmlrpc.server
SimpleHTTPServer http.server
CGIHTTPServer http.server
UserDict collections
UserList collections
UserString collections
whichdb dbm
StringIO io
cStringIO io
exceptions builtins
""")

_NAMES = {
    tuple(old.split(":")): tuple(new.split(":"))
    for old, new in _table("""
__builtin__:xrange builtins:range
__builtin__:reduce functools:reduce
__builtin__:intern sys:intern
__builtin__:unichr builtins:chr
__builtin__:unicode builtins:str
__builtin__:long builtins:int
__builtin__:basestring builtins:str
itertools:izip builtins:zip
itertools:imap builtins:map
itertools:ifilter builtins:filter
itertools:ifilterfalse itertools:filterfalse
itertools:izip_longest itertools:zip_longest
UserDict:IterableUserDict collections:UserDict
whichdb:whichdb dbm:whichdb
_socket:fromfd socket:fromfd
_multiprocessing:Connection multiprocessing.connection:Connection
multiprocessing.process:Process multiprocessing.context:Process
multiprocessing.forking:Popen multiprocessing.popen_fork:Popen
multiprocessing:AuthenticationError multiprocessing.context:AuthenticationError
multiprocessing:BufferTooShort multiprocessing.context:BufferTooShort
multiprocessing:ProcessError multiprocessing.context:ProcessError
multiprocessing:TimeoutError multiprocessing.context:TimeoutError
socket:_socketobject socket:SocketType
urllib:ContentTooShortError urllib.error:ContentTooShortError
urllib:getproxies urllib.request:getproxies
urllib:pathname2url urllib.request:pathname2url
urllib:quote_plus urllib.parse:quote_plus
urllib:quote urllib.parse:quote
urllib:unquote_plus urllib.parse:unquote_plus
urllib:unquote urllib.parse:unquote
urllib:url2pathname urllib.request:url2pathname
urllib:urlcleanup urllib.request:urlcleanup
urllib:urlencode urllib.parse:urlencode
urllib:urlopen urllib.request:urlopen
urllib:urlretrieve urllib.request:urlretrieve
urllib2:HTTPError urllib.error:HTTPError
urllib2:URLError urllib.error:URLError
exceptions:StandardError builtins:Exception
""").items()
}


def python_3(module: str, name: str) -> tuple[str, str]:
    """Return (module, name) under which Python 3 looks this up in a pickle of protocol 0 to 2."""
    renamed = _NAMES.get((module, name))
    return (renamed[0], renamed[1]) if renamed else (_MODULES.get(module, module), name)
