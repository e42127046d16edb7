"""`mtl pack`: a run made small enough to give away, in the form of the Hugging Face hub."""

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch

from mtlcli.errors import InputError, RunError
from mtlcli.files import read_json, replacing, write_json
from mtlcli.runs import checkpoint
from mtlcli.runs.card import describe
from mtlcli.runs.folder import CARD, LAST, PACKED, PACKED_RECORD, RECORD, RESULTS, record_file
from mtlcli.runs.names import file_of, pin, title
from mtlcli.runs.record import Record, find_record
from mtlcli.runs.results import Results, find_results, read_results

PLACE = re.compile(r"((?:[^=/\\~]*=)*)(.*)", re.DOTALL)  # --option=NAME= and what may be a path


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What `pack` wrote."""

    path: Path
    before: int  # bytes of the checkpoint
    after: int


def pack(run: Path, out: Path, licence: str = "") -> Packed:
    """Write a run folder with what predicting needs: weights in half precision, no optimiser, and
    of files elsewhere on this machine their names alone.

    Every command that takes a run takes it, except `mtl train --resume`.

    Args:
        run: checkpoint or run folder.
        out: folder for model.safetensors, config.json, README.md and the scores.
        licence: of the weights, as the hub names it.

    Raises:
        InputError: no such checkpoint, or `out` has one of these files already, or those of a run.
        RunError: it cannot be written.
    """
    source = file_of(pin(run))
    for name in (PACKED, PACKED_RECORD, CARD, RESULTS, RECORD, LAST):
        if (out / name).exists():
            raise InputError(f"{out / name} is there already: choose another --out, or remove it.")
    content = checkpoint.read(source)
    config, dataset = checkpoint.facts_of(content, source)
    beside, scores = find_record(source), scores_of(source, content["iteration"])
    record = replace(beside or Record(config=config, dataset=dataset), config=config)
    record = Record.from_json(without_places(record.to_json()))
    network = {name: halve(tensor) for name, tensor in content["network"].items()}
    name = title(source.absolute().parent)
    rounded = any(
        w.is_floating_point() and w.dtype != torch.half for w in content["network"].values()
    )
    card = describe(name, record, scores, content["iteration"], licence=licence, rounded=rounded)
    try:
        out.mkdir(parents=True, exist_ok=True)
        known = read_json(record_file(source.parent)) if beside else record.to_json()
        write_json(out / PACKED_RECORD, without_places(known))
        if scores:
            said = replace(scores, checkpoint=PACKED).to_json()
            write_json(out / RESULTS, without_places(said))
        with replacing(out / CARD) as file:
            file.write(card.encode())
    except OSError as error:
        raise RunError(f"Cannot write {out}: {error.strerror or error}.") from error
    kept = {key: without_places(content[key]) for key in ("config", "dataset", "iteration")}
    checkpoint.save_packed(out / PACKED, network, **kept)
    size = (out / PACKED).stat().st_size
    return Packed(path=out / PACKED, before=source.stat().st_size, after=size)


def without_places(value: Any) -> Any:
    """A JSON value in which absolute paths, and those through a home folder or a parent, are `...`
    and their last part: where a file lay is the business of nobody else. Also behind the `=` of an
    option; so that none becomes the name of something else, as of a run, the dots stay.
    """
    if isinstance(value, dict):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(each) for each in value]
    if not isinstance(value, str):
        return value
    option, place = PLACE.fullmatch(value).groups()  # type: ignore[union-attr]
    kind = PureWindowsPath if "\\" in place else PurePosixPath
    if kind(place).is_absolute() or place.startswith("~") or ".." in kind(place).parts:
        return f"{option}.../{kind(place).name}"
    return value


def scores_of(source: Path, iteration: int) -> Results | None:
    """What `mtl eval` found of this checkpoint, not of another of its run."""
    file = find_results(source.parent)
    results = read_results(file) if file.is_file() else None
    if not results or (results.checkpoint, results.iteration) != (source.name, iteration):
        return None
    return results


def halve(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision for what is a fraction, single where that is too small for it; counters stay
    as they are. Memory of its own.
    """
    kind = tensor.dtype
    if tensor.is_floating_point():
        fits = torch.equal(tensor.half().isfinite(), tensor.isfinite())
        kind = torch.half if fits else torch.float
    return tensor.to(kind, memory_format=torch.contiguous_format, copy=True)
