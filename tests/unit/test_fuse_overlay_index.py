"""The format of an index: what is written is read, and what is damaged does no harm."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_overlay import index, ownership
from fuse_overlay.index import Record
from fuse_overlay.ownership import Device, Owner

RECORDS = [Record(b"link", 7, {b"user.a": b"1"}), Record(b"fifo", 8, {b"user.b": b"", b"user.c": b"\0\n" * 100})]


def file(*records: Record, ino: int = 5, directory: int = 2) -> bytes:
    """A whole index file."""
    return index.format_all(records, ino, directory)


def read(data: bytes, ino: int = 5, directory: int = 2) -> index.Index:
    """What an index file holds; it must be one."""
    found = index.parse(data, ino, directory)
    assert found is not None
    return found


def test_what_is_written_is_read() -> None:
    """Each record comes back under its name and inode number, and under no other."""
    found = read(file(*RECORDS))
    assert RECORDS == found.records()
    assert {b"user.a": b"1"} == found.get(b"link", 7)
    assert ({}, {}) == (found.get(b"link", 8), found.get(b"none", 7))
    assert found.exact


def test_later_records_replace_and_take_back() -> None:
    """The last record of a file counts; without attributes the file has none."""
    again = Record(b"link", 7, {b"user.z": b"2"})
    assert {b"user.z": b"2"} == read(file(*RECORDS, again)).get(b"link", 7)
    assert [b"fifo"] == [record.name for record in read(file(*RECORDS, Record(b"link", 7, {}))).records()]


def test_two_files_that_had_one_name() -> None:
    """While a rename is under way the old and the new file of a name are told apart by their inode numbers."""
    found = read(file(Record(b"a", 7, {b"x": b"old"}), Record(b"a", 9, {b"x": b"new"})))
    assert ({b"x": b"old"}, {b"x": b"new"}) == (found.get(b"a", 7), found.get(b"a", 9))


def test_in_a_copied_index_the_name_alone_counts() -> None:
    """Elsewhere inode numbers mean nothing: of each name, the last record that wasn't taken back counts."""
    records = (Record(b"a", 7, {b"x": b"old"}), Record(b"a", 9, {b"x": b"new"}), Record(b"a", 7, {}))
    for ino, directory in ((6, 2), (5, 3)):
        found = read(file(*records), ino, directory)
        assert ({b"x": b"new"}, False) == (found.get(b"a", 1234), found.exact)


@pytest.mark.parametrize("length", range(len(file(*RECORDS))))
def test_a_write_that_was_cut_short(length: int) -> None:
    """Of an index that ends anywhere, the whole records count, and nothing else."""
    found = index.parse(file(*RECORDS)[:length], 5, 2)
    assert found is None or found.records() == RECORDS[: len(found.records())]
    assert found is None or found.length <= length


@given(st.binary(max_size=200), st.integers(0, 300))
def test_hostile_bytes(noise: bytes, where: int) -> None:
    """Whatever is in the file, reading it ends, and what has a wrong sum doesn't count."""
    data = file(*RECORDS)
    found = index.parse(data[:where] + noise + data[where:], 5, 2)
    assert found is None or all(record in RECORDS for record in found.records())


def test_what_is_too_long_is_refused() -> None:
    """A name that the format has no room for is an error, not half a record."""
    with pytest.raises(ValueError, match="format"):
        index.format_record(Record(b"x" * (1 << 16), 1, {}))


def test_an_index_is_written_anew_when_it_is_mostly_waste() -> None:
    """Records that were replaced over and over count as waste, those that count don't."""
    small = [Record(b"link", 7, {b"user.a": b"%d" % number}) for number in range(3)]
    assert not read(file(*small)).is_wasteful()
    many = [Record(b"link", 7, {b"user.a": b"%d" % number}) for number in range(1000)]
    assert read(file(*many)).is_wasteful()
    assert not read(file(*(record._replace(ino=number + 1) for number, record in enumerate(many)))).is_wasteful()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0:0:0666:char-1-3", Device(stat.S_IFCHR, 0x103)),
        (b"0:6:0660:block-8-1", Device(stat.S_IFBLK, 0x801)),
        (b"0:0:0644:file", None),
        (b"0:0:0644", None),
        (b"0:0:0644:char-1", None),
        (b"0:0:0644:char-1-3-4", None),
        (b"0:0:0644:char--1-3", None),
        (b"0:0:0644:char-5000-3", None),
        (b"0:0:0644:char-1-" + b"9" * 5000, None),
        (b"x:0:0644:char-1-3", None),
    ],
)
def test_devices_are_read_with_care(value: bytes, expected: Device | None) -> None:
    """A record of a device names its type and both numbers; what is malformed isn't one."""
    assert expected == ownership.parse_device(value)


def test_devices_come_back() -> None:
    """What is written reads as the same, with the owner."""
    device = Device(stat.S_IFBLK, 0x801)
    value = ownership.format_record(Owner(1, 2, 0o660), device)
    assert (device, Owner(1, 2, 0o660)) == (ownership.parse_device(value), ownership.parse_record(value))
