# SPDX-License-Identifier: MIT
"""Paths that a broker opens."""

from __future__ import annotations

import errno
import glob as glob_module
import os
import pathlib
import stat as stat_module
from typing import IO, Any, Callable, Iterator, Optional, cast

from .broker import Broker, default_broker
from .payload import StrPath


class BrokeredPath(pathlib.PurePosixPath):
    """pathlib.Path, done by a broker: that of `broker`, or the default one. Paths derived from it have the same."""

    _broker: Optional[Broker] = None

    def __new__(cls, *segments: Any, broker: Optional[Broker] = None) -> BrokeredPath:
        self = super().__new__(cls, *segments)
        self._broker = broker
        return self

    def __init__(self, *segments: Any, broker: Optional[Broker] = None) -> None:
        # Python 3.12 reads the segments here, older ones in __new__.
        if pathlib.PurePath.__init__ is not object.__init__:
            super().__init__(*segments)
        self._broker = broker

    def _with(self, path: pathlib.PurePath) -> BrokeredPath:
        return BrokeredPath(path, broker=self._broker)

    def with_segments(self, *segments: Any) -> BrokeredPath:
        """Python 3.12 and later make every derived path with this; the methods below do it for older ones."""
        return BrokeredPath(*segments, broker=self._broker)

    def __truediv__(self, other: Any) -> BrokeredPath:
        return self._with(super().__truediv__(other))

    def __rtruediv__(self, other: Any) -> BrokeredPath:
        return self._with(super().__rtruediv__(other))

    def joinpath(self, *others: Any) -> BrokeredPath:
        return self._with(super().joinpath(*others))

    def with_name(self, name: str) -> BrokeredPath:
        return self._with(super().with_name(name))

    def with_suffix(self, suffix: str) -> BrokeredPath:
        return self._with(super().with_suffix(suffix))

    def relative_to(self, *other: Any, **options: Any) -> BrokeredPath:
        return self._with(super().relative_to(*other, **options))

    @property
    def parent(self) -> BrokeredPath:
        return self._with(super().parent)

    @property
    def parents(self) -> list[BrokeredPath]:
        return [self._with(path) for path in super().parents]

    @property
    def broker(self) -> Broker:
        return self._broker if self._broker is not None else default_broker()

    def open(self, mode: str = "r", buffering: int = -1, encoding: Optional[str] = None, errors: Optional[str] = None,
             newline: Optional[str] = None) -> IO[Any]:
        return self.broker.open(self, mode, buffering, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return bytes(file.read())

    def read_text(self, encoding: Optional[str] = None, errors: Optional[str] = None, newline: Optional[str] = None) -> str:
        with self.open("r", encoding=encoding, errors=errors, newline=newline) as file:
            return str(file.read())

    def write_bytes(self, data: bytes) -> int:
        """Whole or not at all."""
        with self.broker.put(self) as file:
            return int(file.write(data))

    def write_text(self, data: str, encoding: Optional[str] = None, errors: Optional[str] = None,
                   newline: Optional[str] = None) -> int:
        """Whole or not at all."""
        with self.broker.put(self, "w", encoding=encoding, errors=errors, newline=newline) as file:
            return int(file.write(data))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return cast(os.stat_result, self.broker.stat(self, follow_symlinks=follow_symlinks))

    def lstat(self) -> os.stat_result:
        return self.stat(follow_symlinks=False)

    def _has_type(self, kind: Any, follow_symlinks: bool = True) -> bool:
        try:
            return bool(kind(self.stat(follow_symlinks=follow_symlinks).st_mode))
        except OSError as error:
            # As pathlib has it.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            return False

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """A path that the policy refuses raises PermissionError: nobody knows."""
        return self._has_type(lambda _: True, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._has_type(stat_module.S_ISREG, follow_symlinks)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._has_type(stat_module.S_ISDIR, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._has_type(stat_module.S_ISLNK, follow_symlinks=False)

    def is_fifo(self) -> bool:
        return self._has_type(stat_module.S_ISFIFO)

    def is_socket(self) -> bool:
        return self._has_type(stat_module.S_ISSOCK)

    def iterdir(self) -> Iterator[BrokeredPath]:
        for entry in self.broker.scandir(self):
            yield self / entry.name

    def resolve(self, strict: bool = True) -> BrokeredPath:
        """Without symbolic links; of something that is there."""
        return BrokeredPath(self.broker.realpath(self), broker=self._broker)

    def walk(self, top_down: bool = True, on_error: Optional[Callable[[OSError], None]] = None,
             follow_symlinks: bool = False) -> Iterator[tuple[BrokeredPath, list[str], list[str]]]:
        for directory, directories, files in self.broker.walk(self, top_down, on_error, follow_symlinks):
            yield BrokeredPath(directory, broker=self._broker), directories, files

    def glob(self, pattern: str) -> Iterator[BrokeredPath]:
        escaped = glob_module.escape(str(self))
        for path in self.broker.iglob(os.path.join(escaped, pattern), recursive=True):
            yield BrokeredPath(path, broker=self._broker)

    def rglob(self, pattern: str) -> Iterator[BrokeredPath]:
        return self.glob(os.path.join("**", pattern))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        try:
            self.broker.mkdir(self, mode)
        except FileNotFoundError:
            if not parents or self.parent == self:
                raise
            self.parent.mkdir(parents=True, exist_ok=True)
            self.mkdir(mode, parents=False, exist_ok=exist_ok)
        except FileExistsError:
            if not exist_ok or not self.is_dir():
                raise

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.broker.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        self.broker.rmdir(self)

    def rename(self, target: StrPath) -> BrokeredPath:
        self.broker.rename(self, target)
        return BrokeredPath(os.fsdecode(target), broker=self._broker)

    replace = rename

    def symlink_to(self, target: StrPath, target_is_directory: bool = False) -> None:
        self.broker.symlink(target, self)

    def readlink(self) -> BrokeredPath:
        return BrokeredPath(self.broker.readlink(self), broker=self._broker)

    def chmod(self, mode: int) -> None:
        self.broker.chmod(self, mode)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        if exist_ok:
            try:
                self.broker.utime(self)
                return
            except OSError:  # as pathlib does: it is not there, or its times may not be set
                pass
        os.close(self.broker.open_fd(self, os.O_CREAT | os.O_WRONLY | (0 if exist_ok else os.O_EXCL), mode))
