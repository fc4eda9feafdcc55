"""Turn messages into bytes and back, strictly: what is not exactly a message of this vocabulary is no message.

A `Wire` knows a closed set of frozen dataclasses. On the wire a message is the msgpack list [class name, field, ...];
an array is [dtype, shape, bytes]; a nested dataclass is the list of its fields. Nothing from outside names a type
to import. The types of the fields are the schema: one field more or less, a NaN, a byte after the end: a WireError.
"""

import math
import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgpack
import numpy as np

from protocols.faults import LocalError, WireError

Plain = Any  # what msgpack knows: None, bool, int, float, str, bytes, list
_DTYPES = {np.dtype(t).newbyteorder("<") for t in ("f4", "f8", "u1", "u2", "u4", "u8", "i4", "i8")}
_CODES = {d.str: d for d in _DTYPES}
_INT_LIMIT = 2**63
_MAX_DIMENSIONS = 4
_MOST_ITEMS, _LONGEST = 2**18, 2**16  # vectors are bytes: names and numbers are all that is counted
MEGABYTE = 2**20
_LONG_BYTES = 2**16
_SHORT = {type(None), bool, int, float, str}


class Message:
    """Mark a frozen, slotted dataclass that may cross a wire; an ask, an answer, a state, a task or a result."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Codec:
    """Join the two directions of one type. `put` trusts our own value's type; `get` trusts nothing."""

    put: Callable[[Any], Plain]
    get: Callable[[Plain], Any]


class Wire:
    """Encode and decode exactly the message classes it was made with, up to `max_bytes` each."""

    def __init__(self, *kinds: type[Message], max_bytes: int = 512 * MEGABYTE) -> None:
        self.kinds = kinds
        self.max_bytes = max_bytes
        self._codecs = {k.__name__: _dataclass_codec(k) for k in kinds}
        if len(self._codecs) != len(kinds):
            raise LocalError("two message classes share a name")

    def encode(self, message: Message) -> bytes:
        """Return the bytes of `message`. Raises: LocalError for what is not in the vocabulary or not finite."""
        codec = self._codecs.get(type(message).__name__)
        if codec is None or type(message) not in self.kinds:
            raise LocalError(f"{type(message).__name__} is not in this vocabulary")
        try:
            packed = _packed([type(message).__name__, *codec.put(message)])
        except (WireError, ValueError, TypeError, OverflowError, AttributeError):
            raise LocalError(f"a {type(message).__name__} holds what its types forbid") from None
        if len(packed) > self.max_bytes:
            raise LocalError(f"{len(packed)} bytes, the limit is {self.max_bytes}")
        return bytes(packed)

    def decode(self, data: bytes) -> Message:
        """Return the message that `data` is. Raises: WireError, whose text holds nothing of the data."""
        if len(data) > self.max_bytes:
            raise WireError(f"{len(data)} bytes, the limit is {self.max_bytes}")
        try:
            tree = _unpacked(data)
        except Exception as malformed:  # noqa: BLE001  msgpack documents no closed set of errors
            raise WireError(f"not msgpack ({type(malformed).__name__})") from None
        if not (isinstance(tree, list) and tree and isinstance(tree[0], str)):
            raise WireError("not a message")
        codec = self._codecs.get(tree[0])
        if codec is None:
            raise WireError("not a message of this vocabulary")
        message: Message = codec.get(tree[1:])
        return message


def _packed(tree: Plain) -> bytes:
    """Return what msgpack makes of a tree; long bytes are copied once, into the result."""
    pieces: list[Any] = []
    _pack(tree, msgpack.Packer(use_bin_type=True, buf_size=4096), pieces)
    return b"".join(pieces)


def _pack(tree: Plain, packer: Any, pieces: list[Any]) -> None:
    if isinstance(tree, list) and _SHORT.issuperset(map(type, tree)):  # names, say: thousands, in one call
        pieces.append(packer.pack(tree))
    elif isinstance(tree, list):
        pieces.append(packer.pack_array_header(len(tree)))
        for item in tree:
            _pack(item, packer, pieces)
    elif isinstance(tree, (bytes, memoryview)) and len(tree) >= _LONG_BYTES:
        pieces += (b"\xc6" + len(tree).to_bytes(4, "big"), tree)
    else:
        pieces.append(packer.pack(tree))


def _unpacked(data: bytes) -> Plain:
    """Return the tree in `data`, of at most `_MOST_ITEMS` items: a byte can become a list of 64, times 2**28."""
    left = _MOST_ITEMS

    def count(items: list[Plain]) -> list[Plain]:
        nonlocal left
        left -= 1 + len(items)
        if left < 0:
            raise ValueError("too many items")
        return items

    return msgpack.unpackb(
        data, raw=False, use_list=True, list_hook=count, max_array_len=_LONGEST, max_map_len=0, max_ext_len=0
    )


def _dataclass_codec(kind: type[Any]) -> _Codec:
    if not (is_dataclass(kind) and kind.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise LocalError(f"{kind.__name__} is not a frozen dataclass")
    hints = get_type_hints(kind)
    parts = [(f.name, _codec(hints[f.name])) for f in fields(kind)]

    def put(value: Any) -> Plain:
        return [codec.put(getattr(value, name)) for name, codec in parts]

    def get(plain: Plain) -> Any:
        if not isinstance(plain, list) or len(plain) != len(parts):
            raise WireError(f"{kind.__name__}: expected {len(parts)} fields")
        values = [codec.get(p) for (_, codec), p in zip(parts, plain, strict=True)]
        try:
            return kind(*values)
        except ValueError:  # a dataclass may check itself; its words stay here
            raise WireError(f"{kind.__name__}: out of range") from None

    return _Codec(put, get)


def _codec(hint: Any) -> _Codec:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _optional(args)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _sequence(_codec(args[0]))
    if origin is np.ndarray:
        return _array(np.dtype(get_args(args[1])[0]).newbyteorder("<"))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    if is_dataclass(hint):
        return _dataclass_codec(hint)  # type: ignore[arg-type]
    supertype = getattr(hint, "__supertype__", hint)  # a NewType is its supertype on the wire
    if supertype in (bool, int, float, str, bytes):
        return _scalar(supertype)
    raise LocalError(f"no wire form for {hint}")


def _scalar(kind: type) -> _Codec:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise WireError(f"expected {kind.__name__}")
        if isinstance(value, int) and not -_INT_LIMIT <= value < _INT_LIMIT:
            raise WireError("an integer of more than 64 bits")
        if isinstance(value, float) and not math.isfinite(value):
            raise WireError("a number that is not finite")
        return value

    return _Codec(check, check)


def _optional(args: tuple[Any, ...]) -> _Codec:
    inner = [a for a in args if a is not type(None)]
    if len(inner) != 1 or len(args) != 2:
        raise LocalError("the wire knows X | None and no other union")
    codec = _codec(inner[0])
    return _Codec(lambda v: None if v is None else codec.put(v), lambda p: None if p is None else codec.get(p))


def _sequence(codec: _Codec) -> _Codec:
    def put(value: Any) -> Plain:
        if not isinstance(value, tuple):
            raise WireError("expected a tuple")
        return [codec.put(v) for v in value]

    def get(plain: Plain) -> Any:
        if not isinstance(plain, list):
            raise WireError("expected a sequence")
        return tuple(codec.get(p) for p in plain)

    return _Codec(put, get)


def _enum(kind: type[Enum]) -> _Codec:
    known = {e.value: e for e in kind}

    def get(plain: Plain) -> Any:
        if not isinstance(plain, (str, int)) or plain not in known:
            raise WireError(f"not a {kind.__name__}")
        return known[plain]

    return _Codec(lambda v: kind(v).value, get)


def _array(dtype: np.dtype[Any]) -> _Codec:
    if dtype not in _DTYPES:
        raise LocalError(f"no wire form for arrays of {dtype}")

    def put(value: Any) -> Plain:
        if not isinstance(value, np.ndarray) or value.dtype.newbyteorder("<") != dtype:
            raise WireError("an array of another dtype")
        _finite(value)
        plain = np.ascontiguousarray(value, dtype=dtype)
        return [dtype.str, list(value.shape), plain.reshape(-1).view(np.uint8).data]  # no copy: msgpack makes one

    def get(plain: Plain) -> Any:
        if not (isinstance(plain, list) and len(plain) == 3 and plain[0] == dtype.str):
            raise WireError("not an array of the expected dtype")
        shape, data = _shape(plain[1]), plain[2]
        if not isinstance(data, bytes) or len(data) != dtype.itemsize * math.prod(shape):
            raise WireError("an array whose bytes do not fill its shape")
        array = np.frombuffer(data, dtype=dtype).reshape(shape)  # a view on bytes: not writable
        _finite(array)
        return array

    return _Codec(put, get)


def _shape(plain: Plain) -> tuple[int, ...]:
    if not (isinstance(plain, list) and len(plain) <= _MAX_DIMENSIONS):
        raise WireError("not a shape")
    if any(type(n) is not int or not 0 <= n < 2**40 for n in plain):
        raise WireError("not a shape")
    return tuple(plain)


def _finite(array: np.ndarray[Any, Any]) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError("an array that is not finite")
