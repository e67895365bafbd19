"""Files that are whole or not there: temporary file, fsync, rename."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agent_economy.errors import EconomyError

TEMPORARY = ".tmp"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def write_atomic(path: Path, content: bytes | str) -> None:
    """Put ``content`` at ``path`` so that a reader, or a kill, never meets half of it.

    Args:
        path: the file; its folder must exist.
        content: bytes, or text to write as UTF-8.

    Raises:
        OSError: the disk is full or the folder is not writable; nothing is left behind.
    """
    with atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece; it is at ``path`` once the block has ended well, not before.

    The temporary file lies in the same folder, as a rename is atomic only inside one file system.

    Args:
        path: the file; its folder must exist.

    Raises:
        OSError: the disk is full or the folder is not writable; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in ``folder`` durable; a no-op where folders cannot be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def names_in(folder: Path) -> set[str]:
    """What lies in a folder that is to be written, temporary files apart; touches nothing.

    Raises:
        EconomyError: it is a file, or neither it nor the folder it would be made in is writable.
    """
    if folder.exists() and not folder.is_dir():
        raise EconomyError(f"{folder} is a file; choose another -o")
    nearest = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise EconomyError(f"cannot write in {nearest}; choose another -o")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    return {name for name in names if not name.endswith(TEMPORARY)}


def make_folders(folder: Path) -> list[Path]:
    """Make a folder where it is missing; returns it and its parents if they were made here."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def unmake_folders(made: list[Path]) -> None:
    """Remove what ``make_folders`` made, unless something lies there."""
    for path in made:
        with suppress(OSError):  # somebody else has put something there meanwhile
            path.rmdir()


@contextmanager
def one_line_if_disk_full(
    folder: Path, remedy: str = "repeat the command with --resume"
) -> Iterator[None]:
    """Turn "no space left" into the one line that tells the user what to do.

    Args:
        folder: where is written.
        remedy: what to do once there is space.

    Raises:
        EconomyError: the disk that ``folder`` is on filled up.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise EconomyError(
                f"the disk is full; free some space and {remedy} (what {folder} holds is whole)"
            ) from error
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; the lock goes with the process, however it dies.

    Raises:
        EconomyError: another process holds the folder.
    """
    try:
        import fcntl
    except ImportError:  # no flock on Windows: the lock is a courtesy, the store is safe without
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise EconomyError(f"another process is writing to {folder}; wait for it") from error
    finally:
        os.close(handle)
