"""What the bytes of a cell are, and how to show them without believing them.

Pure. A value is looked at as JSON, text, msgpack, an image by its first bytes, in that order; whatever it is, its first
4 KiB are shown as a hex dump too. Nothing here produces markup: the templates escape all of it.
"""

from __future__ import annotations

import datetime
import json
import unicodedata
from dataclasses import dataclass

import msgpack

HEX_BYTES = 4 * 1024
"""How much of a value the hex dump shows."""
TEXT_CHARACTERS = 64 * 1024
"""How much of a text, or of a pretty form, is shown; the rest is there as a download."""
DECODE_BYTES = 1024 * 1024
"""Values above this size are not decoded: pretty-printing one would hold up every other request of the process."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"%PDF-", "PDF document"),
    (b"PK\x03\x04", "ZIP archive (or an office document)"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x7fELF", "ELF binary"),
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """`kind` in words; `text` is what to show (empty for binary), cut if `cut`; `hexdump` the first 4 KiB."""

    kind: str
    text: str
    cut: bool
    hexdump: str
    hex_cut: bool
    size: int


def inspect(value: bytes) -> Inspection:
    """`value` (at most 8 MiB) made presentable; never raises, whatever the bytes."""
    kind, text = _recognise(value)
    return Inspection(
        kind=kind,
        text=text[:TEXT_CHARACTERS],
        cut=len(text) > TEXT_CHARACTERS,
        hexdump=hexdump(value[:HEX_BYTES]),
        hex_cut=len(value) > HEX_BYTES,
        size=len(value),
    )


def _recognise(value: bytes) -> tuple[str, str]:
    if not value:
        return "empty", ""
    for magic, name in _MAGIC:
        if value.startswith(magic):
            return name, ""
    decodable = value if len(value) <= DECODE_BYTES else b""
    text = _as_text(value)
    if text is not None:
        pretty = _as_json(text) if decodable else None
        return ("JSON", pretty) if pretty is not None else ("text", _safe_lines(text))
    unpacked = _as_msgpack(decodable) if decodable else None
    return ("msgpack", unpacked) if unpacked is not None else ("binary", "")


def _as_text(value: bytes) -> str | None:
    """`value` as text if it is UTF-8 and hardly holds control characters; None otherwise."""
    head = value[: TEXT_CHARACTERS * 4]
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(head) == len(value) or error.start < len(head) - 3:
            return None
        text = head[: error.start].decode()  # the cut went through a character
    controls = sum(1 for character in text if character < " " and character not in "\t\n\r\f")
    return text if controls * 100 <= len(text) and "\0" not in text else None


def _as_json(text: str) -> str | None:
    """`text` pretty-printed if it is a JSON object or array; a bare number or word is better shown as it is."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return _safe_lines(json.dumps(json.loads(text), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return None


def _as_msgpack(value: bytes) -> str | None:
    """`value` pretty-printed if all of it is one msgpack map or array; nearly any byte is a valid msgpack number."""
    if not (0x80 <= value[0] <= 0x9F or 0xDC <= value[0] <= 0xDF):
        return None
    try:
        unpacked = msgpack.unpackb(value, strict_map_key=False, timestamp=3)
        return _safe_lines(json.dumps(_plain(unpacked), indent=2, ensure_ascii=False))
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException):
        return None


def _plain(value: object) -> object:
    """What msgpack unpacks, as JSON can say it: bytes as `<12 bytes: 00 ff …>`, keys as text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes: {value[:16].hex(' ')}{' …' if len(value) > 16 else ''}>"
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, msgpack.ExtType):
        return f"<extension {value.code}, {len(value.data):,} bytes>"
    return value


def _safe_lines(text: str) -> str:
    """`text` with what does not print, or turns the direction of what follows, spelled `\\u{…}`; line ends stay."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        character
        if character in "\n\t " or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")
        else f"\\u{{{ord(character):x}}}"
        for character in text[: TEXT_CHARACTERS + 1]
    )


def hexdump(value: bytes) -> str:
    """The classic dump: offset, sixteen bytes in hex, the same bytes as text; one line for each sixteen."""
    lines = []
    for offset in range(0, len(value), 16):
        piece = value[offset : offset + 16]
        left, right = piece[:8].hex(" "), piece[8:].hex(" ")
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{offset:08x}  {left:<23}  {right:<23}  |{printable}|")
    return "\n".join(lines)
