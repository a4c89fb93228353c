"""Structured mutation of models and pipelines; fuzz_subjects.py says of which.

Mutators change one thing or a few of a valid input, guided by its structure, so that most mutants
get far. A seeded generator makes all choices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import flatbuffers
import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

Mutator = Callable[[bytes, Random], bytes]

_INTEGERS = (
    *(0, 1, -1, 2, 3, 7, 64, 127, 128, 255, -128, -129, 2**15, 2**16, 2**20, 2**26, 2**31 - 1),
    *(-(2**31), 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, -(2**63)),
)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e-7, 0.5, 3e38, float("inf"), float("nan"))
_STRINGS = ("", "x", "?", "\n", "\x00", "x" * 5000, "../../etc/passwd", "é", "%s{}")

_TOKEN = re.compile(r"\d+\.\d+(?:[eE][-+]?\d+)?|\d+|[\w$.]+|\s+|.", re.DOTALL)
_PIPELINE_WORDS = (
    *("{", "}", "(", ")", ",", "=", '"', "'", " ", "any(", "func.func(", "builtin.module(", "x"),
    *(
        "cse",
        "canonicalize",
        "{top-down=0}",
        "{max-iterations=99999999999}",
        "symbol=a b",
        "\\",
        "é",
    ),
)
_MLIR_WORDS = (
    *("i1", "i4", "i8", "ui8", "si8", "i16", "i32", "i64", "i128", "f16", "f32", "index", "none"),
    *("tensor<*xi8>", "tensor<?xi8>", "tensor<i8>", "tensor<0xi8>", "tensor<4xi8>", "vector<4xi8>"),
    *("memref<4xi8>", "!tosa.shape<4>", "!quant.uniform<i8:f32, 0.5:3>", "complex<f32>", "()"),
    *("dense<1>", "dense_resource<a>", "unit", "true", "array<i64: 1, 2>", "affine_map<() -> ()>"),
    *("-1", "-9223372036854775808", "18446744073709551616", '""', "%x", "^bb0", "@main", "loc(#l)"),
)


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Bits, words and stretches changed, cut out, doubled or lost."""
    copy = bytearray(data)
    for _ in range(random.randint(1, 4)):
        if len(copy) < 8:
            break
        at, kind = random.randrange(len(copy)), random.randrange(7)
        end = at + random.randint(1, 32)
        if kind == 0:
            copy[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            copy[at] = random.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            # Lengths and offsets are words, at multiples of four.
            at -= at % 4
            word = random.choice(_INTEGERS) & 0xFFFFFFFF
            copy[at : at + 4] = word.to_bytes(4, "little")
        elif kind == 3:
            copy[at:end] = bytes(random.randrange(256) for _ in copy[at:end])
        elif kind == 4:
            copy[at:at] = copy[at:end]
        elif kind == 5:
            del copy[at:end]
        elif random.random() < 0.2:
            del copy[at:]
    return bytes(copy)


def mutate_onnx(data: bytes, random: Random) -> bytes:
    """Fields of the messages in an ONNX file."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return mutate_bytes(data, random)
    for _ in range(random.randint(1, 3)):
        messages = list(_messages(model))
        message = random.choice(messages)
        field = random.choice(message.DESCRIPTOR.fields)
        try:
            _mutate_field(message, field, messages, random)
        except (ValueError, TypeError, AttributeError):
            continue  # a value that no such field can have
    return model.SerializeToString()


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from _messages(inner)


def _mutate_field(
    message: Message, field: FieldDescriptor, messages: Sequence[Message], random: Random
) -> None:
    value = getattr(message, field.name)
    others = [m for m in messages if m.DESCRIPTOR is field.message_type]
    others += [value] if field.message_type and not field.is_repeated else []
    if field.message_type and not others:
        return
    if not field.is_repeated:
        if random.random() < 0.2:
            message.ClearField(field.name)
        elif field.message_type:
            value.ParseFromString(random.choice(others).SerializeToString())
        else:
            setattr(message, field.name, _hostile(value, random))
        return
    if random.random() < 0.1:
        message.ClearField(field.name)
    elif len(value) and random.random() < 0.6:
        place = random.randrange(len(value))
        if random.random() < 0.4:
            del value[place]
        elif field.message_type:
            value[place].ParseFromString(random.choice(others).SerializeToString())
        else:
            value[place] = _hostile(value[place], random)
    elif field.message_type:
        value.add().ParseFromString(random.choice(others).SerializeToString())
    else:
        value.append(_hostile(value[0] if len(value) else 1, random))


def _hostile(value: Any, random: Random) -> Any:
    """Another value of the type of ``value``."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + random.choice((-1, 1)) if random.random() < 0.3 else random.choice(_INTEGERS)
    if isinstance(value, float):
        return random.choice(_FLOATS) if random.random() < 0.7 else value * random.uniform(-3, 3)
    if isinstance(value, str):
        return random.choice(_STRINGS)
    if isinstance(value, bytes):
        return mutate_bytes(value, random) if random.random() < 0.7 else value[:-1]
    raise TypeError(type(value))


def mutate_tflite(data: bytes, random: Random) -> bytes:
    """Fields of the tables in a TFLite file."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        for _ in range(random.randint(1, 3)):
            tables = list(_tables(model))
            _mutate_table(random.choice(tables), tables, random)
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
    except Exception:  # a damaged file, or a value that its field cannot have
        return mutate_bytes(data, random)
    return bytes(builder.Output())


def _tables(table: Any) -> Iterator[Any]:
    yield table
    for value in vars(table).values():
        for inner in value if isinstance(value, list) else [value]:
            if hasattr(inner, "__dict__"):
                yield from _tables(inner)


def _mutate_table(table: Any, tables: Sequence[Any], random: Random) -> None:
    name = random.choice(list(vars(table)))
    value = getattr(table, name)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        _mutate_list(value, random)
    elif hasattr(value, "__dict__"):
        value = random.choice([None, *(t for t in tables if type(t) is type(value))])
    elif value is not None:
        value = _hostile(value, random)
    setattr(table, name, value)


def _mutate_list(values: list[Any], random: Random) -> None:
    if not values or random.random() < 0.1:
        values[:] = [] if values else [random.choice(_INTEGERS)]
        return
    place, other = (random.randrange(len(values)) for _ in range(2))
    kind = random.randrange(4)
    if kind == 0:
        del values[place]
    elif kind == 1:
        values.insert(place, values[other])
    elif hasattr(values[place], "__dict__"):
        values[place] = values[other]
    else:
        values[place] = _hostile(values[place], random)


def mutate_mlir(data: bytes, random: Random) -> bytes:
    """Words and lines of MLIR text; bytes of bytecode."""
    if data.startswith(b"ML\xefR"):
        return data[:4] + mutate_bytes(data, random)[4:]
    return mutate_words(data.decode(errors="replace"), random, _MLIR_WORDS).encode()


def mutate_pipeline(data: bytes, random: Random) -> bytes:
    """Words of a pass pipeline."""
    return mutate_words(data.decode(errors="replace"), random, _PIPELINE_WORDS).encode()


def mutate_words(text: str, random: Random, words: Sequence[str]) -> str:
    """Words of a line, or lines, replaced, lost, doubled or exchanged."""
    for _ in range(random.randint(1, 3)):
        lines = text.splitlines(keepends=True)
        if not lines:
            break
        if random.random() < 0.2:
            _mutate_sequence(lines, lines, random)
        else:
            place = random.randrange(len(lines))
            parts = _TOKEN.findall(lines[place])
            numbers = [i for i, part in enumerate(parts) if part.isdigit()]
            if numbers and random.random() < 0.4:
                parts[random.choice(numbers)] = str(random.choice(_INTEGERS))
            else:
                _mutate_sequence(parts, [*words, *parts], random)
            lines[place] = "".join(parts)
        text = "".join(lines)
    return text


def _mutate_sequence(parts: list[str], others: Sequence[str], random: Random) -> None:
    place, kind = random.randrange(len(parts)), random.randrange(4)
    if kind == 0:
        del parts[place]
    elif kind == 1:
        parts.insert(place, random.choice(others))
    elif kind == 2:
        parts[place] = random.choice(others)
    else:
        other = random.randrange(len(parts))
        parts[place], parts[other] = parts[other], parts[place]
