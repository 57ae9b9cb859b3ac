"""Has a file changed? For those that are followed while a process runs."""

from pathlib import Path

FileState = tuple[int, int, int]


def state_of(path: Path) -> FileState | None:
    """What changes when the file does; mounted secrets are replaced as a whole, so the inode counts too. None: no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
