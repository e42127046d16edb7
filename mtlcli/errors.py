"""The errors made for the user: `mtl` prints their one line and exits with their code."""


class MtlError(Exception):
    """A failure with a message made for the user: it names the offending thing and the remedy."""

    exit_code = 1


class InputError(MtlError):
    """What the user gave cannot be used (missing path, unknown name, corrupt file): exit code 2."""

    exit_code = 2


class RunError(MtlError):
    """The work itself failed while running (full disk, diverged training): exit code 1."""


class Interrupted(MtlError):
    """The user or the system asked to stop, and what was done is saved: exit code 130."""

    exit_code = 130


def in_one_line(error: BaseException, longest: int = 300) -> str:
    """The kind and the message of any exception, for a line that has more to say."""
    words = " ".join(str(error).split())
    message = words if len(words) <= longest else f"{words[:longest]}..."
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"{name}: {message}" if message else name
