"""Shared libraries as files, of 32 and 64 bits, for what a loader would ask about them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path


class Elf:
    """As much of a little-endian shared library as the tests ask about."""

    GNU_STACK, GNU_RELRO, LOAD = 0x6474E551, 0x6474E552, 1
    SONAME, NEEDED, TEXTREL, RPATH, RUNPATH, FLAGS = 14, 1, 22, 15, 29, 30
    FLAG_TEXTREL = 4
    SYMTAB, DYNSYM, DYNAMIC, VERSIONS_NEEDED = 2, 11, 6, 0x6FFFFFFE
    I386, ARM, X86_64, AARCH64 = 3, 40, 62, 183
    ARM_HARD_FLOAT = 0x400

    def __init__(self, path: Path) -> None:
        self.data = data = path.read_bytes()
        assert data[:4] == b"\x7fELF"
        assert data[5] == 1, "big-endian"
        self.wide = data[4] == 2
        (self.machine,) = struct.unpack_from("<H", data, 18)
        (self.flags,) = struct.unpack_from("<I", data, 48 if self.wide else 36)
        program_at, section_at = struct.unpack_from(
            "<QQ" if self.wide else "<II", data, 32 if self.wide else 28
        )
        size, count, section_size, sections = struct.unpack_from(
            "<HHHH", data, 54 if self.wide else 42
        )
        self.segments = [self._segment(program_at + size * i) for i in range(count)]
        """(kind, flags)."""
        form = "<IIQQQQIIQQ" if self.wide else "<10I"
        self.sections = [
            struct.unpack_from(form, data, section_at + section_size * i) for i in range(sections)
        ]

    def _segment(self, at: int) -> tuple[int, int]:
        kind, flags_64 = struct.unpack_from("<II", self.data, at)
        (flags_32,) = struct.unpack_from("<I", self.data, at + 24)
        return kind, flags_64 if self.wide else flags_32

    def text(self, table: int, offset: int) -> str:
        begin = self.sections[table][4] + offset
        return self.data[begin : self.data.index(b"\0", begin)].decode()

    def of_kind(self, kind: int) -> Iterator[tuple[int, ...]]:
        return (section for section in self.sections if section[1] == kind)

    def dynamic(self) -> list[tuple[int, int, int]]:
        """(tag, value, number of the string table)."""
        form = "<QQ" if self.wide else "<II"
        return [
            (*struct.unpack_from(form, self.data, at), section[6])
            for section in self.of_kind(self.DYNAMIC)
            for at in range(section[4], section[4] + section[5], struct.calcsize(form))
        ]

    def needed(self) -> set[str]:
        return {self.text(table, v) for tag, v, table in self.dynamic() if tag == self.NEEDED}

    def soname(self) -> str | None:
        names = [self.text(table, v) for tag, v, table in self.dynamic() if tag == self.SONAME]
        return names[0] if names else None

    def symbols(self) -> Iterator[tuple[str, bool]]:
        """(name, whether it is defined here)."""
        form, where = ("<IBBHQQ", 3) if self.wide else ("<IIIBBH", 5)
        size = struct.calcsize(form)
        for section in self.of_kind(self.DYNSYM):
            for at in range(section[4] + size, section[4] + section[5], size):
                symbol = struct.unpack_from(form, self.data, at)
                yield self.text(section[6], symbol[0]), symbol[where] != 0

    def versions(self) -> set[str]:
        """Versions of other libraries' symbols that it asks for, such as GLIBC_2.17."""
        found = set()
        for section in self.of_kind(self.VERSIONS_NEEDED):
            at, more = section[4], True
            while more:
                _, count, _, first, following = struct.unpack_from("<HHIII", self.data, at)
                one = at + first
                for _ in range(count):
                    _, _, _, name, next_one = struct.unpack_from("<IHHII", self.data, one)
                    found.add(self.text(section[6], name))
                    one += next_one
                at, more = at + following, following != 0
        return found

    def writes_to_its_code(self) -> bool:
        """Whether the loader must change the code (text relocations)."""
        return any(
            tag == self.TEXTREL or (tag == self.FLAGS and value & self.FLAG_TEXTREL)
            for tag, value, _ in self.dynamic()
        )
