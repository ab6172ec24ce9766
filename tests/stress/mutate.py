"""Damage to files: blind, and such that knows the format and keeps the layers around it whole."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
Mutator = Callable[[bytes, Rng], bytes]

_INTEGERS = (0, 1, 2, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_NUMBERS = (
    *("", "-1", "0", "1e999", "-1e999", "1e308", "1e-400", "NaN", "Infinity", "-0.0", "1_000"),
    *("9" * 30, "9" * 400, "9" * 5000, "0x10", "1.5.2", "٣", "1,5", "true", "null", '"7"'),
)
_YAML = (
    *("\t", "? [1]: 2", "a: &a [*a]", "!!timestamp x", "!!int ''", "!!bool x", "!!binary é"),
    *("!!set {a, b}", "2001-13-45", "1: 2", "${", "${" * 3000, "${x:${y}}", "- - - -", "'", '"'),
    *("a: 1\na: 2", "<<: *b", "!!python/object/apply:os.system ['true']", "...", "---", "@", "%"),
    *("[" * 2000, "{" * 150, "&a ", "*a", "defaults: 3", "defaults:\n  - [1]", "defaults: [a: b]"),
    "\n".join(f"x{i}: &x{i} [*x{i - 1}, *x{i - 1}]" if i else "x0: &x0 [1, 1]" for i in range(40)),
    "\n".join(
        f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}" if i else "m0: &m0 {}" for i in range(40)
    ),
    *(
        "defaults:\n  - override /model: smal",
        "defaults:\n  - e",
        "defaults:\n  - override hydra/x: y",
    ),
)
_VALUES: tuple[object, ...] = (
    *(None, True, -1, 0, 2**63, 10**25, 10**400, 1e308, -1e308, 1e-320, float("nan"), float("inf")),
    *(
        "",
        "x",
        "\ud800",
        "\x00",
        "\x1b[31m",
        "9" * 5000,
        [],
        {},
        [[]],
        {"": {}},
        [None],
        [{}],
        {"name": 1},
    ),
)


def choose(rng: Rng, options):  # type: ignore[no-untyped-def]
    return options[int(rng.integers(len(options)))]


def blind(content: bytes, rng: Rng) -> bytes:
    """Flip bits, cut, repeat, insert, overwrite with integers that are often limits."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 64))
        if rng.random() < 0.5:  # most formats have what matters at their beginning
            at = min(at, int(rng.integers(1, 160)))
        kind = int(rng.integers(7))
        if kind <= 1 and at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length]
        elif kind == 5:
            data[at:at] = rng.bytes(length)
        else:
            form = choose(rng, ("<H", ">H", "<I", ">I", "<Q", ">Q", "<q"))
            bits = 8 * struct.calcsize(form) - form.endswith("q")
            value = choose(rng, (*_INTEGERS, 2**63 - 1, 2**bits - 1)) % 2**bits
            data[at : at + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(data)


def text(content: bytes, rng: Rng) -> bytes:
    """Put hostile numbers in the place of numbers; repeat and drop lines; break characters."""
    kind = int(rng.integers(6))
    numbers = list(re.finditer(rb"-?\d[\d.eE+-]*", content))
    lines = content.split(b"\n")
    line = int(rng.integers(len(lines)))
    if kind <= 1 and numbers:
        found = choose(rng, numbers)
        return content[: found.start()] + choose(rng, _NUMBERS).encode() + content[found.end() :]
    if kind == 2:
        del lines[line]
    elif kind == 3:
        lines.insert(line, choose(rng, lines))
    elif kind == 4:
        word = choose(
            rng, (b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r", b'"', b",,", b";", b"[" * 99999)
        )
        at = int(rng.integers(len(lines[line]) + 1))
        lines[line] = lines[line][:at] + word + lines[line][at:]
    else:
        return blind(content, rng)
    return b"\n".join(lines)


def yaml(content: bytes, rng: Rng) -> bytes:
    if rng.random() < 0.3:
        return text(content, rng)
    lines = content.decode().split("\n")
    at, hostile = int(rng.integers(len(lines))), choose(rng, _YAML)
    if rng.random() < 0.5:
        lines.insert(at, hostile)
    else:
        key = lines[at].partition(":")[0]
        lines[at] = f"{key}: {hostile}"
    return "\n".join(lines).encode()


def json_document(content: bytes, rng: Rng) -> bytes:
    """Put a hostile value at a random place of the document."""
    if rng.random() < 0.2:
        return text(content, rng)
    document = json.loads(content)
    places = list(_places(document))
    holder, key = choose(rng, places)
    if rng.random() < 0.1:
        hostile: object = "DEEP"
    else:
        hostile = choose(rng, _VALUES)
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = hostile
    depth = choose(rng, (50, 120, 900, 100_000))
    return json.dumps(document).replace('"DEEP"', "[" * depth + "]" * depth).encode()


def _places(value):  # type: ignore[no-untyped-def]
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in list(entries):
        yield value, key
        if isinstance(entry, dict | list):
            yield from _places(entry)


def json_lines(content: bytes, rng: Rng) -> bytes:
    lines = content.split(b"\n")
    at = int(rng.integers(len(lines) - 1))
    lines[at] = json_document(lines[at], rng)
    return b"\n".join(lines)


def npy(content: bytes, rng: Rng) -> bytes:
    """Write another header before the same entries."""
    if rng.random() < 0.4:
        return blind(content, rng)
    start = content.index(b"\n") + 1
    shape = choose(
        rng, ("()", "(0,)", "(-1,)", "(99999999999, 9)", "(2**40,)", "(1,)*40", "(3, 0)")
    )
    kind = choose(
        rng, ("<f8", "|O", "<U0", "|S0", "<U3", "V8", ">i2", "<c16", "M8[s]", "x", "<f99")
    )
    header = choose(
        rng,
        (
            f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}",
            f"{{'descr': [('a', '{kind}')], 'fortran_order': 1, 'shape': {shape}, }}",
            f"{{'descr': '{kind}', 'shape': {shape}, }}",
            "(" * 3000,
            "{'a': " * 50,
            "__import__('os')",
            "[" * 90 + "]" * 90,
            "\x00",
        ),
    )
    body = header.encode() + b"\n"
    return content[:8] + struct.pack("<H", len(body)) + body + content[start:]


def zipped(inner: Mutator) -> Mutator:
    """Damage a member of an archive, or what is said of it, or the archive."""

    def mutate(content: bytes, rng: Rng) -> bytes:
        if rng.random() < 0.4:
            return blind(content, rng)
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
            names = old.namelist()
            target = choose(rng, names)
            for name in names:
                member = old.read(name)
                how = choose(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
                new.writestr(name, inner(member, rng) if name == target else member, how)
        return packed.getvalue()

    return mutate


def gzipped(inner: Mutator) -> Mutator:
    """Damage what is compressed and compress it again, or damage the stream."""

    def mutate(content: bytes, rng: Rng) -> bytes:
        if rng.random() < 0.3:
            return blind(content, rng)
        return gzip.compress(inner(gzip.decompress(content), rng), 1)

    return mutate


def tar(content: bytes, rng: Rng) -> bytes:
    """Damage a header and mend its checksum: only then is it believed."""
    if rng.random() < 0.3:
        return blind(content, rng)
    data = bytearray(content)
    at = 512 * int(rng.integers(len(data) // 512))
    headers = [i for i in range(0, len(data), 512) if data[i + 257 : i + 262] == b"ustar"]
    at = choose(rng, headers or [at])
    field, value = choose(
        rng,
        (
            (124, b"77777777777"),
            (124, b"\x80" + b"\x00" * 7 + b"\x7f\xff\xff\xff"),
            (124, b"\xff" * 12),
            (124, b"-0000000001"),
            (
                156,
                choose(rng, (b"S", b"x", b"g", b"L", b"K", b"1", b"2", b"3", b"5", b"7", b"\xff")),
            ),
            (0, b"../x\0"),
            (100, b"zzzzzzz"),
            (345, b"\xff" * 20),
            (386, b"\x80" + b"\xff" * 20),
        ),
    )
    data[at + field : at + field + len(value)] = value
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = f"{sum(data[at : at + 512]):06o}\0 ".encode()
    return bytes(data)


def safetensors(content: bytes, rng: Rng) -> bytes:
    """Damage the header as a document, the document in its metadata, or any byte."""
    if rng.random() < 0.3:
        return blind(content, rng)
    length = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.get("__metadata__", {})
    key = choose(rng, [*metadata] or [None])
    try:
        nested = json.loads(metadata[key])
    except (KeyError, ValueError):
        nested = None
    if isinstance(nested, dict) and rng.random() < 0.8:
        metadata[key] = json_document(metadata[key].encode(), rng).decode(errors="replace")
        packed = json.dumps(header).encode()
    else:
        packed = json_document(json.dumps(header).encode(), rng)
    return struct.pack("<Q", len(packed)) + packed + body
