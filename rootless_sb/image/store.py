"""Images on disk: what they are called, what they are, and their layers, unpacked once for all that have them.

    STORE/references/DOMAIN/PATH/:TAG    a symlink that reads the id of the image with this name; `@DIGEST` likewise
    STORE/images/ID/record               what a run needs (`record`); `manifest` and `config` are as they came
    STORE/images/ID/lock                 shared by the sandboxes that run on this image
    STORE/layers/HEX/tree                a layer, by the digest of its uncompressed archive; `info` has its size
    STORE/layers/HEX/split               with the tree it makes that archive again: see `tar_split`
    STORE/layers/empty                   what lies beneath every image: see `beneath`
    STORE/lock                           shared by whoever adds, held alone by whoever removes: see `collection`

What has a dot before its name is being made or removed, and nobody else looks at it. There are no paths in the store
that lead out of it, so it can be moved.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb import faults
from rootless_sb.errors import Doing, SbError
from rootless_sb.image import record, reference
from rootless_sb.kernel import files, trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, TypeAlias

    from rootless_sb.image.decompression import Limits
    from rootless_sb.image.record import Image
    from rootless_sb.image.reference import Reference
    from rootless_sb.image.unpack import Unpacked

    Told: TypeAlias = Callable[[int], None]

_HINT = "set SB_DATA_HOME to a directory on another disk, or make room: sb image prune"
_SHORTEST_ID = 6  # digits that name an image by the beginning of its id
# What mounts of a sandbox need to be there, should the image not have it; as a layer it is in nobody's changes.
_MOUNTPOINTS = ("dev", "proc", "sys", "etc")
_MOUNT_FILES = ("etc/hostname", "etc/hosts", "etc/resolv.conf")


class Found(NamedTuple):
    """An image and the store that has it."""

    image: Image
    store: Store


class Store:
    """The images in the directory `path`."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def find(self, called: str) -> Image | None:
        """The image of this name or id, or of an id that begins so. Raises SbError for what can't be a name."""
        digits = called.removeprefix("sha256:")
        is_id = len(digits) >= _SHORTEST_ID and all(each in "0123456789abcdef" for each in digits)
        if is_id and len(digits) == 64:
            return self.load(digits)
        if not called.startswith("sha256:") and (image := self.named(reference.parse(called))) is not None:
            return image
        if not is_id:
            return None
        known = [each for each in listed(f"{self.path}/images") if each.startswith(digits)]
        if len(known) > 1:
            raise SbError(f"{called} is not one image", f"{len(known)} ids begin so", "give more digits of it")
        return self.load(known[0]) if known else None

    def named(self, name: Reference) -> Image | None:
        """The image of this name. Raises SbError."""
        try:
            identifier = os.readlink(self._reference(name))
        except OSError:  # ENOENT: there is none
            return None
        return self.load(identifier)

    def load(self, identifier: str) -> Image | None:
        """The image with this id, None if it isn't here. Raises SbError."""
        with Doing(f"cannot read the image {identifier[:12]}"):
            try:
                with open(f"{self.path}/images/{identifier}/record", "rb", buffering=0) as file:
                    return record.decode(file.readall())
            except (FileNotFoundError, NotADirectoryError):
                return None
            except record.RecordError as error:
                raise SbError(
                    f"cannot read the image {identifier[:12]}", str(error), "sb image pull it again"
                ) from error

    def images(self) -> Iterator[Image]:
        """All images. Raises SbError."""
        for identifier in listed(f"{self.path}/images"):
            if (image := self.load(identifier)) is not None:
                yield image

    def names(self) -> dict[str, list[Reference]]:
        """The names of each image, by its id."""
        found: dict[str, list[Reference]] = {}
        top = f"{self.path}/references"
        for path, _, links in os.walk(top):  # os.walk counts a symlink that leads nowhere among the files
            for link in links:
                if link[0] in ":@":
                    name = reference.parse(f"{path[len(top) + 1 :]}{link}")
                    try:
                        found.setdefault(os.readlink(f"{path}/{link}"), []).append(name)
                    except FileNotFoundError:  # somebody has just removed it
                        continue
        return {identifier: sorted(names) for identifier, names in found.items()}

    def read(self, identifier: str, part: str) -> bytes:
        """`manifest` or `config` of an image, as it came. Raises SbError."""
        with (
            Doing(f"cannot read the image {identifier[:12]}"),
            open(f"{self.path}/images/{identifier}/{part}", "rb") as file,
        ):
            return file.read()

    def tree(self, layer: str) -> str:
        """The directory of a layer."""
        return f"{self.path}/layers/{layer}/tree"

    def has_layer(self, layer: str) -> bool:
        """Whether a layer is here, whole."""
        return os.path.isdir(self.tree(layer))

    def layer_size(self, layer: str) -> int:
        """The bytes of a layer's files."""
        with Doing(f"cannot read the layer {layer[:12]}"), open(f"{self.path}/layers/{layer}/info", "rb") as file:
            return int(file.read().partition(b" ")[0])

    def open_split(self, layer: str) -> IO[bytes]:
        """What makes a layer's archive again with its tree, as `tar_split.join` reads it. Raises OSError."""
        return open(f"{self.path}/layers/{layer}/split", "rb")

    def image_directory(self, identifier: str) -> str:
        """The directory of an image, for `hold`."""
        return f"{self.path}/images/{identifier}"

    def beneath(self) -> str:
        """The directory that lies beneath every image: empty files and directories where a sandbox mounts its own.

        It is made if need be. Raises SbError.
        """
        place = f"{self.path}/layers/empty"
        if os.path.isdir(place):
            return place
        directory = self.open("layers")
        fresh = f".empty.{os.getpid()}"
        try:
            with Doing(f"cannot write to {self.path}", _HINT):
                for name in _MOUNTPOINTS:
                    os.makedirs(f"{self.path}/layers/{fresh}/{name}", 0o755, exist_ok=True)
                for name in _MOUNT_FILES:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                    os.close(os.open(f"{fresh}/{name}", flags, 0o644, dir_fd=directory))
                self._put_into_place(directory, fresh, "empty")
        finally:
            trees.remove_if_there(directory, fresh)
            os.close(directory)
        return place

    def add_layer(self, layer: str, blob: IO[bytes], limits: Limits, told: Told | None = None) -> None:
        """Unpack a layer, unless it is here; who else wants the same one waits. Raises SbError.

        `layer`: the digits of the digest that the uncompressed archive must have.
        """
        directory = self.open("layers")
        lock = None
        try:
            with Doing(f"cannot write to {self.path}", _HINT):
                while lock is None:
                    lock = files.lock(directory, f".{layer}.lock", wait=True)
                    if lock is not None and os.fstat(lock).st_nlink == 0:  # whoever had it was done with it
                        os.close(lock)
                        lock = None
                if not self.has_layer(layer):
                    _make_layer(directory, layer, blob, limits, told)
                os.unlink(f".{layer}.lock", dir_fd=directory)
        finally:
            if lock is not None:
                os.close(lock)
            os.close(directory)

    def add(self, image: Image, manifest: bytes, config: bytes) -> None:
        """Let others see an image whose layers are all here; the manifest replaces an earlier one. Raises SbError."""
        directory = self.open("images")
        mode = 0o600 | (os.fstat(directory).st_mode & 0o044)
        fresh = f".{image.identifier}.{os.getpid()}"
        try:
            with Doing(f"cannot write to {self.path}", _HINT):
                os.mkdir(fresh, 0o700 | (os.fstat(directory).st_mode & 0o055), dir_fd=directory)
                changing = {"manifest": manifest, "record": record.encode(image)}
                _write_files(directory, fresh, {"lock": b"", "config": config, **changing}, mode)
                faults.point("image-written")
                files.sync_file_system(directory)  # its layers, too, are there before it is
                if not self._put_into_place(directory, fresh, image.identifier):
                    _write_files(directory, image.identifier, changing, mode)
        finally:
            trees.remove_if_there(directory, fresh)
            os.close(directory)

    @staticmethod
    def _put_into_place(directory: int, fresh: str, name: str) -> bool:
        """Rename a directory, unless there is one of that name already; whether that was needed. Raises OSError."""
        try:
            os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:  # ENOTEMPTY: it is there already
            if not os.path.isdir(f"/proc/self/fd/{directory}/{name}"):
                raise
            return False
        return True

    def name(self, name: Reference, identifier: str) -> None:
        """Have a name mean an image from now on. Raises SbError."""
        place = self._reference(name)
        fresh = f"{os.path.dirname(place)}/.{os.getpid()}"
        with Doing(f"cannot write to {self.path}", _HINT):
            for attempt in (True, False):
                try:
                    os.makedirs(os.path.dirname(place), 0o777, exist_ok=True)
                    os.symlink(identifier, fresh)
                    break
                except FileNotFoundError:  # somebody has just removed the last name in that directory
                    if not attempt:
                        raise
                except FileExistsError:  # left by a process with our number
                    os.unlink(fresh)
            faults.point("name-written")
            os.rename(fresh, place)

    def drop_name(self, name: Reference) -> None:
        """Have a name mean nothing, and remove the directories that it leaves empty. Raises SbError."""
        with Doing(f"cannot remove the name {name.familiar()}"):
            place = self._reference(name)
            os.unlink(place)
            while (place := os.path.dirname(place)) != f"{self.path}/references":
                try:
                    os.rmdir(place)
                except OSError:  # ENOTEMPTY: other names are in it
                    return

    def _reference(self, name: Reference) -> str:
        mark = f"@{name.digest}" if name.digest else f":{name.tag}"
        return f"{self.path}/references/{name.domain}/{name.path}/{mark}"

    def open(self, part: str) -> int:
        """A descriptor of a part of the store, made if need be. Raises SbError."""
        with Doing(f"cannot write to {self.path}", _HINT):
            os.makedirs(f"{self.path}/{part}", 0o700, exist_ok=True)
            return os.open(f"{self.path}/{part}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def find(called: str, stores: tuple[Store, ...]) -> Found | None:
    """The image that is called so, in the first store that has it. Raises SbError."""
    for store in stores:
        if (image := store.find(called)) is not None:
            return Found(image, store)
    return None


def _write_files(parent: int, name: str, content: dict[str, bytes], mode: int) -> None:
    """Write files in the directory `name` in `parent`. Raises OSError."""
    own = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        for file, data in content.items():
            files.write_atomically(own, file, data, durable=True, mode=mode)
    finally:
        os.close(own)


def _make_layer(directory: int, layer: str, blob: IO[bytes], limits: Limits, told: Told | None) -> None:
    """Unpack a layer under a hidden name, and rename it when it is whole. Raises OSError, SbError."""
    hidden = f".{layer}"
    others = os.fstat(directory).st_mode & 0o055
    trees.remove_if_there(directory, hidden)  # whoever made that is dead: the lock was free
    try:
        os.mkdir(hidden, 0o700 | others, dir_fd=directory)
        own = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            found = _unpack_into(own, blob, limits, others, told)
            files.write_atomically(
                own, "info", b"%d %d" % (found.size, found.files), durable=False, mode=0o600 | others & 0o044
            )
        finally:
            os.close(own)
        if found.diff_id != f"sha256:{layer}":
            why = f"unpacked it is {found.diff_id}, and should be sha256:{layer}"
            raise SbError("a layer is damaged", why, "ask who made the image")
        files.sync_file_system(directory)
        faults.point("layer-unpacked")
        os.rename(hidden, layer, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        trees.remove_if_there(directory, hidden)
        raise


def _unpack_into(own: int, blob: IO[bytes], limits: Limits, others: int, told: Told | None) -> Unpacked:
    from rootless_sb.image import unpack

    os.mkdir("tree", 0o755, dir_fd=own)
    root = os.open("tree", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=own)
    try:
        faults.point("unpacking")
        split = os.open("split", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600 | others & 0o044, dir_fd=own)
        try:
            return unpack.unpack(blob, root, split, limits, others, told or (lambda _: None))
        finally:
            os.close(split)
    finally:
        os.close(root)


def hold(image: str) -> int:
    """Have the image in this directory stay for as long as the returned descriptor is open. Raises SbError."""
    gone = SbError(
        f"the image {os.path.basename(image)[:12]} is gone", "somebody has just removed it", "sb image pull it again"
    )
    try:
        directory = os.open(image, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise gone from error
    try:
        with Doing(f"cannot use the image {os.path.basename(image)[:12]}"):
            held = files.share(directory, "lock")
    finally:
        os.close(directory)
    if held is None:
        raise gone
    return held


def listed(path: str) -> list[str]:
    """The names in a directory that aren't hidden; none where there is nothing."""
    try:
        return sorted(name for name in os.listdir(path) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
