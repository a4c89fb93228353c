"""Output files: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tinymlir.errors import TinymlirError


def write_all(directory: Path, contents: dict[str, bytes]) -> list[Path]:
    """Write files into ``directory``: beside first, then renamed, so none is ever half there.

    Raises:
        TinymlirError: naming the directory, where it cannot be written.
    """
    staged: list[tuple[str, Path]] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for file, data in contents.items():
                handle, temporary = tempfile.mkstemp(dir=directory, prefix=f".{file}.")
                staged.append((temporary, directory / file))
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                os.chmod(temporary, 0o644)
                if staged[-1][1].is_dir():
                    raise IsADirectoryError(f"'{staged[-1][1].name}' is a directory")
            for temporary, final in staged:
                os.replace(temporary, final)
        except BaseException:  # an interrupt as well
            for temporary, _ in staged:
                Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise TinymlirError(
            f"cannot be written: {reason}", file=str(directory), hint="choose another -o"
        ) from error
    return [final for _, final in staged]
