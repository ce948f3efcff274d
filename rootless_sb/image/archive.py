"""Archives of images, read: what `docker save` writes, an OCI layout, and that in a tar archive.

Formats: docker's image spec v1.2 ("Combined Image JSON + Filesystem Changeset"), OCI image-spec (image-layout.md).
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from typing import IO, TYPE_CHECKING, Protocol

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import Doing, SbError
from rootless_sb.image import decompression, manifest, reference
from rootless_sb.image.blobs import CHUNK
from rootless_sb.image.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from rootless_sb.image.blobs import Partial
    from rootless_sb.image.reference import Reference

_MOST_FILES = 100_000
_MOST_LINKS = 8  # symlinks that lead to each other
_HINT = "it should be what docker save or skopeo writes; sb image import takes root file systems"


class Files(Protocol):
    """The files of an archive, by path."""

    def size(self, path: str) -> int | None:
        """The bytes of a file, None if there is none."""

    def open(self, path: str) -> IO[bytes]:
        """A file, to read. Raises SbError."""


class Listed(NamedTuple):
    """An image of an archive: what it is called there, and its tag or digest for `manifest` of the source."""

    names: tuple[Reference, ...]
    wanted: str


class DirectoryFiles:
    """The files of a directory."""

    def __init__(self, path: str) -> None:
        self._path = path

    def size(self, path: str) -> int | None:
        """See Files."""
        try:
            return os.stat(f"{self._path}/{path}").st_size
        except OSError:
            return None

    def open(self, path: str) -> IO[bytes]:
        """See Files."""
        with Doing(f"cannot read {self._path}/{path}"):
            return open(f"{self._path}/{path}", "rb")


class TarFiles:
    """The files of a tar archive that isn't compressed."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            archive = tarfile.TarFile(fileobj=file, mode="r", errors="surrogateescape")
            while (info := archive.next()) is not None:
                self._members[posixpath.normpath(info.name)] = info
                if len(self._members) > _MOST_FILES:
                    raise SbError(f"cannot read {name}", f"it has more than {_MOST_FILES} files", _HINT)
        except (*decompression.UNREADABLE, OSError) as error:
            raise SbError(f"cannot read {name}", f"it is no tar archive: {error}", _HINT) from error

    def size(self, path: str) -> int | None:
        """See Files."""
        found = self._member(path)
        return found.size if found is not None else None

    def open(self, path: str) -> IO[bytes]:
        """See Files."""
        found = self._member(path)
        if found is None:
            raise SbError(f"cannot read {self._name}", f"there is no {path} in it", _HINT)
        return _Part(self._file, found.offset_data, found.size)  # type: ignore[return-value]  # what we need of a file

    def _member(self, path: str) -> tarfile.TarInfo | None:
        """A regular file; docker writes symlinks for layers that an archive has twice."""
        for _ in range(_MOST_LINKS):
            found = self._members.get(posixpath.normpath(path))
            if found is None or found.isreg():
                return found
            if not (found.issym() or found.islnk()):
                return None
            above = posixpath.dirname(path) if found.issym() else ""
            path = posixpath.join(above, found.linkname)
        return None


class _Part:
    """A part of a file, to read from its beginning on."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._descriptor = file.fileno()
        self._place = start
        self._left = size

    def read(self, size: int = -1) -> bytes:
        """So many bytes, less at the end."""
        data = os.pread(self._descriptor, self._left if size < 0 else min(size, self._left), self._place)
        self._place += len(data)
        self._left -= len(data)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class Layout:
    """An OCI layout as a source of images."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def images(self) -> list[Listed]:
        """The images that it lists. Raises SbError."""
        entries = manifest.parse(_read(self._files, "index.json"), manifest.OCI_INDEX)
        if isinstance(entries, Manifest):
            raise SbError("cannot read the archive", "its index is no index", _HINT)
        return [Listed(_named(entry.name), entry.descriptor.digest) for entry in entries]

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """See adding.Source."""
        return _read(self._files, _blob(wanted)), ""

    async def fetch(self, wanted: Descriptor, partial: Partial, told: Callable[[int], None]) -> None:
        """See adding.Source."""
        _copy(self._files, _blob(wanted.digest), partial, told)


class DockerArchive:
    """What `docker save` writes, as a source of images: each gets a manifest, which these archives don't have."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._paths: dict[str, str] = {}  # of blobs, by digest
        self._manifests: dict[str, bytes] = {}

    def images(self) -> list[Listed]:
        """The images that it lists. Raises SbError."""
        listed = manifest.load(b'{"images":' + _read(self._files, "manifest.json") + b"}", "manifest.json")["images"]
        if not isinstance(listed, list):
            raise SbError("cannot understand manifest.json", "it is not a list", _HINT)
        return [self._image(each) for each in listed]

    def _image(self, entry: manifest.Json) -> Listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
            raise SbError("cannot understand manifest.json", "an image has no configuration", _HINT)
        place, layers, tags = str(entry["Config"]), entry.get("Layers"), entry.get("RepoTags") or []
        if not isinstance(layers, list) or not isinstance(tags, list):
            raise SbError("cannot understand manifest.json", "an image has no layers", _HINT)
        raw = _read(self._files, place, manifest.LARGEST_CONFIG)
        config = Descriptor(manifest.DOCKER_CONFIG, manifest.digest_of(raw), len(raw))
        self._paths[config.digest] = place
        diff_ids = manifest.parse_config(raw).diff_ids
        if len(diff_ids) != len(layers):
            raise SbError("cannot understand manifest.json", "it lists other layers than the configuration", _HINT)
        found = tuple(self._layer(str(path), diff_id) for path, diff_id in zip(layers, diff_ids, strict=True))
        data = manifest.render(Manifest(manifest.DOCKER_MANIFEST, config, found))
        digest = manifest.digest_of(data)
        self._manifests[digest] = data
        return Listed(tuple(name for tag in tags for name in _named(str(tag))), digest)

    def _layer(self, path: str, diff_id: str) -> Descriptor:
        """A layer's blob: nearly always the uncompressed archive itself, whose digest the configuration knows."""
        size = self._files.size(path)
        if size is None:
            raise SbError("cannot read the archive", f"there is no {path} in it", _HINT)
        with self._files.open(path) as file:
            kind = decompression.kind_of(file.read(6))
        media_type = manifest.DOCKER_LAYER + (f".{kind}" if kind else "")
        digest = diff_id
        if kind:
            with self._files.open(path) as file:
                digest = digest_of_file(file)
        self._paths[digest] = path
        return Descriptor(media_type, digest, size)

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """See adding.Source."""
        return self._manifests[wanted], manifest.DOCKER_MANIFEST

    async def fetch(self, wanted: Descriptor, partial: Partial, told: Callable[[int], None]) -> None:
        """See adding.Source."""
        _copy(self._files, self._paths[wanted.digest], partial, told)


def source(files: Files) -> Layout | DockerArchive:
    """The images in some files. An archive that is both is read as what docker knows. Raises SbError."""
    if files.size("manifest.json") is not None:
        return DockerArchive(files)
    if files.size("index.json") is not None:
        return Layout(files)
    raise SbError("cannot read the archive", "there is neither manifest.json nor index.json in it", _HINT)


def digest_of_file(file: IO[bytes]) -> str:
    """The digest of what is left of a file."""
    import hashlib

    sum_ = hashlib.sha256()
    while data := file.read(CHUNK):
        sum_.update(data)
    return f"sha256:{sum_.hexdigest()}"


def _blob(digest: str) -> str:
    if not reference.is_digest(digest):
        raise SbError("cannot read the archive", f"{digest} is not a digest", _HINT)
    return f"blobs/{digest.replace(':', '/')}"


def _read(files: Files, path: str, most: int = manifest.LARGEST) -> bytes:
    """A small file. Raises SbError."""
    size = files.size(path)
    if size is None or size > most:
        why = f"there is no {path} in it" if size is None else f"{path} has more than {most} bytes"
        raise SbError("cannot read the archive", why, _HINT)
    with files.open(path) as file:
        return file.read()


def _copy(files: Files, path: str, partial: Partial, told: Callable[[int], None]) -> None:
    """Copy a file to a blob. Raises SbError."""
    with files.open(path) as file:
        partial.take(file, told)


def _named(text: str) -> tuple[Reference, ...]:
    """The name that an archive gives to an image, if it is one."""
    try:
        return (reference.parse(text),) if text else ()
    except SbError:
        return ()
