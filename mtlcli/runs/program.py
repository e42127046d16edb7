"""What a program of torch.export may hold to be let in: numbers, and arithmetic on tensors.

torch trusts such a file: it unpickles what is in it, loads its libraries, and runs some of its text
as Python. So all that has a say is looked at first, through the reader that torch has for archives,
and what `mtl export` does not write is refused.
"""

import io
import json
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

MODEL, INPUTS = "models/model.json", "data/sample_inputs/model.pt"
CONFIGS = (
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
MEMBER = re.compile(
    r"archive_format|archive_version|version|byteorder|\.\w+(/\w+)?"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|extra/\w+"
)
WORD = re.compile(r"[\w.]*")  # names of weights and results
MODE = re.compile(r"[\w., >-]{0,200}")  # of an operator, such as "bmk,hkc->bmhc" of einsum
SYMBOL = re.compile(r"Symbol\('[su]\d+'(, \w+=True)*\)")
FORMULA = re.compile(r"(\d|[ +*/(),-]|Add|Mul|Integer|FloorDiv|CleanDiv|PythonMod|Mod|Max|Min)*")
SIZE = re.compile(r"L\['\w+'\]\.size\(\)\[\d+\]")
COMPARED = re.compile(r"<=|>=|==|!=|<|>")
OPERATION = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)_?[a-z]\w*\.[A-Za-z]\w*|torch\.sym_\w+"
    r"|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge)"
)
SPEC = {"builtins.tuple", "builtins.list", "builtins.dict"}
REMARKS = ("metadata", "torch_version")  # keys of words that nothing is made of, whatever they say
RULES: dict[str, Callable[[str], object]] = {
    "expr_str": lambda text: is_formula(text),
    "as_string": MODE.fullmatch,
    "as_float": re.compile(r"-?Infinity|NaN").fullmatch,
    "target": lambda text: OPERATION.fullmatch(text),
    "in_spec": lambda text: is_spec(text),
    "out_spec": lambda text: is_spec(text),
    "a remark": lambda text: True,
}


class Harmful(Exception):
    """A file holds what could act."""


def require_harmless(file: BinaryIO) -> None:
    """Look through an archive, from its beginning and back to it.

    Raises:
        Harmful: names what could act.
        Exception: it cannot be read.
    """
    import torch
    from torch.export.pt2_archive import PT2ArchiveReader

    archive = PT2ArchiveReader(file)
    names = archive.get_file_names()
    known = (MODEL, INPUTS, *CONFIGS)
    for name in names:
        if name not in known and not MEMBER.fullmatch(name):
            raise Harmful(f"it holds {name!r}")
    if len(set(names)) < len(names):
        raise Harmful("it holds one name twice")
    for name in (MODEL, *CONFIGS):
        for key, text in texts(json.loads(archive.read_bytes(name))):
            if not RULES.get(key, WORD.fullmatch)(text):
                raise Harmful(f"{name} says {key}: {text[:60]!r}")
    try:
        torch.load(io.BytesIO(archive.read_bytes(INPUTS)), weights_only=True)
    except pickle.UnpicklingError as error:
        raise Harmful("its example is more than tensors") from error
    file.seek(0)


def texts(value: Any, key: str = "", is_remark: bool = False) -> Iterator[tuple[str, str]]:
    """Every text in what JSON holds, and the key that it belongs to; keys are texts as well. What
    has a rule of its own has it in a remark, too: any name may be that of one.

    Raises:
        Harmful: something is to be unpickled, or run as Python.
    """
    if isinstance(value, str):
        yield ("a remark" if is_remark and key not in RULES else key), value
    elif isinstance(value, list):
        if key == "guards_code" and not all(map(is_guard, value)):
            raise Harmful("it brings code that is to be run")
        for each in value if key != "guards_code" else ():
            yield from texts(each, key, is_remark)
    elif isinstance(value, dict):
        if value.get("use_pickle"):
            raise Harmful("it holds pickled objects")
        for name, each in value.items():
            yield "a name", name
            yield from texts(each, name, is_remark or name in REMARKS)


def is_formula(text: str) -> bool:
    """Whether it computes a size from sizes, by no more than sums, products and remainders."""
    return len(text) < 1000 and "**" not in text and bool(FORMULA.fullmatch(SYMBOL.sub("1", text)))


def is_guard(text: object) -> bool:
    """Whether it compares two formulas of the sizes of what goes in, and does no more."""
    parts = COMPARED.split(SIZE.sub("1", text)) if isinstance(text, str) else []
    return len(parts) == 2 and all(map(is_formula, parts))


def is_spec(text: str) -> bool:
    """Whether it describes plain tuples, lists and dicts."""
    kinds = (said for key, said in texts(json.loads(text)) if key == "type")
    return not text or set(kinds) <= SPEC
