"""What a file is that was taken for a checkpoint, by its first bytes: told in the error's line."""

from pathlib import Path
from zipfile import BadZipFile, ZipFile

MAGIC = {  # first bytes -> what begins with them
    b"\x89HDF\r\n\x1a\n": "an HDF5 file: `mtl data` tells what is in a dataset",
    b"\x89PNG": "a picture (PNG): `mtl visualize PICTURE` draws predictions",
    b"\xff\xd8\xff": "a picture (JPEG): `mtl visualize PICTURE` draws predictions",
    b"GIF8": "a picture (GIF)",
    b"BM": "a picture (BMP)",
    b"II*\0": "a picture (TIFF)",
    b"MM\0*": "a picture (TIFF)",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"BZh": "a bzip2 archive: unpack it",
    b"\xfd7zXZ": "an xz archive: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x02": "a pickle, perhaps weights of old PyTorch: `mtl import-demt` reads DeMT's",
    b"<!DOCTYPE": "a web page: the download was none",
    b"<html": "a web page: the download was none",
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the file itself",
    b"\x7fELF": "a program",
}
TORCH = "a file of PyTorch, but not a checkpoint written by mtl"
TENSORS = "a safetensors file: weights without a run"
IN_ZIP = (  # end of a name in a zip file -> what has it
    (
        "constants.pkl",
        "a TorchScript file: mtl reads exported programs (`mtl export --format pt2`)",
    ),
    ("archive_format", "a program of torch.export that mtl did not write: it lacks mtl's facts"),
    ("data.pkl", TORCH),
    (".npy", "a NumPy archive (.npz)"),
    ("word/document.xml", "a Word document"),
    ("", "a zip archive: unpack it"),
)
EXPORTED = (".onnx", ".pt2")


def describe(path: Path) -> str:
    """What a file seems to be, with what to do; "" for what has no known sign."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        return "no regular file"  # reading a pipe would wait
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return ""
    if not head:
        return "empty (0 bytes)"
    known = (what for magic, what in MAGIC.items() if head.startswith(magic))
    if found := next(known, ""):
        return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a picture (WebP)"
    if head[4:8] == b"ftyp":
        return "a video: `mtl visualize VIDEO` draws predictions"
    if head.startswith(b"PK"):
        return describe_zip(path)
    if looks_like_onnx(head):
        return "an ONNX file that mtl did not write: it lacks mtl's facts"
    if head[8:9] == b"{" and b"dtype" in head:
        return TENSORS
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it"
    return "a text file" if b"\0" not in head and is_text(head) else ""


def describe_zip(path: Path) -> str:
    """Of what program an archive is, by the names in it; "" if it is cut short."""
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, OSError, ValueError):
        return ""
    return next(what for end, what in IN_ZIP if not end or any(n.endswith(end) for n in names))


def looks_like_onnx(head: bytes) -> bool:
    """Whether bytes begin as ONNX's ModelProto does: its version, then a field of text or graph."""
    return (
        len(head) > 3 and head[0] == 0x08 and head[1] < 64 and head[2] in (0x12, 0x3A, 0x42, 0x72)
    )


def is_text(head: bytes) -> bool:
    """Whether bytes are text, but for a letter cut at their end."""
    try:
        head[:-4].decode()
    except UnicodeDecodeError:
        return False
    return True


def is_exported(path: Path) -> bool:
    """Whether a file is one of `mtl export`, or meant to be one, by its name or its beginning."""
    if path.suffix.lower() in EXPORTED or not path.is_file():
        return path.suffix.lower() in EXPORTED
    try:
        with path.open("rb") as file:
            return looks_like_onnx(file.read(4))
    except OSError:
        return False
