"""Say which bytes each token of a tokenizer stands for: of every kind that causal language models come with.

    byte-level BPE (GPT-2, Qwen, Llama 3)    a character for each byte, by GPT-2's table
    SentencePiece and its like (Llama 2)     "▁" is a space, "<0x0A>" a byte; a space stands before a text
    bytes themselves (ByT5)                  a token for each byte

Whatever the kind, what the tokenizer makes of trial texts must come out again; a tokenizer that changes a text, or
whose tokens' bytes are not known, is refused.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from client.model import Base
from privacy.config import ConfigError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"
_TRIALS = ("the cat, sat on: 17 mats", "it isn't so (was it)", "x = y[0] + 'z'", "naïve – 漢字 🙂 ok")


@dataclass(frozen=True, slots=True)
class ByteTable:
    """Hold the bytes of each token by its number, b"" for one that stands for none: a special one.

    `end` are the tokens that end a text. `opening` is the token before every text, if the tokenizer puts one there;
    else `hint` is one after which a text is likely to begin, if there is one. `prefix` is what the tokenizer puts
    before a text's own bytes.
    """

    tokens: tuple[bytes, ...] = field(repr=False)
    end: tuple[int, ...]
    opening: int | None = None
    hint: int | None = None
    prefix: bytes = b""

    def joined(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes that tokens stand for together."""
        return b"".join(self.tokens[token] for token in tokens)


def byte_table(base: Base, vocabulary: int) -> ByteTable:
    """Return the table of a model's tokenizer, for all the tokens that the model tells.

    Raises: ConfigError for a tokenizer of which it is not known, or that does not give a text back.
    """
    tokenizer = base.tokenizer
    special = set(tokenizer.all_special_ids)
    spelled = [b""] * vocabulary
    for token, number in tokenizer.get_vocab().items():
        if number < vocabulary and number not in special:
            spelled[number] = _spelled(base, token)
    for number, added in tokenizer.added_tokens_decoder.items():
        if number < vocabulary:
            spelled[number] = b"" if added.special or number in special else added.content.encode()
    frame = list(tokenizer("")["input_ids"])
    ends = _ends(base, spelled)
    opening = frame[0] if frame and frame[0] == tokenizer.bos_token_id else None
    hint = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else next(iter(ends), None)
    table = ByteTable(tuple(spelled), ends, opening, hint, b" " if _written(base, spelled, "a") == b" a" else b"")
    _require_exact(base, table)
    return table


def _spelled(base: Base, token: str) -> bytes:
    kind = _kind(base)
    if kind == "bytes":
        return bytes([ord(token)]) if len(token) == 1 else token.encode()
    if kind == "characters":
        return bytes(_BYTE_OF[c] for c in token) if all(c in _BYTE_OF for c in token) else token.encode()
    if (byte := _BYTE.fullmatch(token)) is not None:
        return bytes([int(byte[1], 16)])
    return token.replace(_SPACE, " ").encode()


def _kind(base: Base) -> str:
    """Return how tokens are written. Raises: ConfigError for a way that is not known."""
    tokenizer = base.tokenizer
    if type(tokenizer).__name__ == "ByT5Tokenizer":
        return "bytes"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    steps = set(_types(json.loads(backend.to_str()).get("decoder"))) if backend is not None else set()
    if "ByteLevel" in steps:
        return "characters"
    if steps & {"ByteFallback", "Metaspace", "Replace"}:
        return "pieces"
    raise ConfigError(base.source, "model", "a tokenizer of a kind whose tokens' bytes are not known")


def _types(decoder: Mapping[str, Any] | None) -> Iterator[str]:
    if decoder:
        yield decoder["type"]
        for part in decoder.get("decoders", ()):
            yield from _types(part)


def _ends(base: Base, spelled: Sequence[bytes]) -> tuple[int, ...]:
    """Return the tokens that end a text: the tokenizer's, and the special ones by which the model stops."""
    own, stops = base.tokenizer.eos_token_id, getattr(base.model.generation_config, "eos_token_id", None)
    others = [number for number in (stops if isinstance(stops, list) else [stops]) if number is not None]
    special = [number for number in others if number < len(spelled) and not spelled[number]]
    return tuple(dict.fromkeys([own, *special] if own is not None else special))


def _written(base: Base, spelled: Sequence[bytes], text: str) -> bytes | None:
    """Return the bytes of what the tokenizer makes of a text, or None where it knows no token for a part of it."""
    tokens = base.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if base.tokenizer.unk_token_id in tokens:
        return None
    return b"".join(spelled[token] for token in tokens)


def _require_exact(base: Base, table: ByteTable) -> None:
    for trial in _TRIALS:
        if _written(base, table.tokens, trial) not in (None, table.prefix + trial.encode()):
            raise ConfigError(base.source, "model", "a tokenizer that does not give back the bytes of a text")


def _gpt2() -> dict[str, int]:
    """Return GPT-2's table: bytes that print stand for themselves, the others for the characters from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _gpt2()
