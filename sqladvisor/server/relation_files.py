"""The files of relations in a cluster of our own: sparse sizes and b-tree metapages.

The planner takes a table's size from its file (RelationGetNumberOfBlocks), and a b-tree's height
from its metapage. A shadow's files have production's sizes without production's rows: they are
extended with holes. Page layouts: src/include/storage/bufpage.h and src/include/access/nbtree.h.
"""

from __future__ import annotations

import math
import os
import struct

from sqladvisor.catalog.statistics import GinPages

PAGE = 8192
SEGMENT = 131_072
"""Pages of a segment file (RELSEG_SIZE): 1 GiB."""
_LEAF, _ROOT = 1, 2


def set_pages(path: str, pages: int) -> None:
    """Make a relation's main fork this many pages long, in segments, without writing them."""
    status = os.stat(path)
    number = 0
    while True:
        segment = path if number == 0 else f"{path}.{number}"
        want = min(max(pages - number * SEGMENT, 0), SEGMENT)
        exists = os.path.exists(segment)
        if number and not want:
            if not exists:
                return
            os.unlink(segment)
        else:
            if not exists:
                descriptor = os.open(segment, os.O_CREAT | os.O_WRONLY, 0o600)
                os.close(descriptor)
                if os.geteuid() == 0:
                    os.chown(segment, status.st_uid, status.st_gid)
            os.truncate(segment, want * PAGE)
        number += 1


def pages_of(path: str) -> int:
    """Pages of a relation's first segment."""
    return os.path.getsize(path) // PAGE


def write_btree(path: str, height: int) -> None:
    """Give a b-tree file of one leaf (or none) a height: one page a level, root above root.

    The planner descends to the ends of an index (get_actual_variable_range()): the chain must be
    walkable. The real leaf, holding the smallest and largest value, stays where it is.
    """
    with open(path, "r+b") as file:
        head = file.read(64)
        root = struct.unpack_from("<I", head, 32)[0]
        file.seek(PAGE)
        leaf = bytearray(file.read(PAGE))
        real = root == 1 and len(leaf) == PAGE and struct.unpack_from("<I", leaf, PAGE - 8)[0] == 0
        flags = _LEAF | (_ROOT if height == 0 else 0)
        if real:
            struct.pack_into("<H", leaf, PAGE - 4, flags)
        else:
            leaf = bytearray(_page(0, flags))
        levels = [_page(n, _ROOT if n == height else 0, n) for n in range(1, height + 1)]
        file.seek(32)
        file.write(struct.pack("<IIII", height + 1, height, height + 1, height))
        file.seek(PAGE)
        file.write(bytes(leaf) + b"".join(levels))


def write_gin(path: str, pages: GinPages) -> None:
    """Set what a GIN index's metapage says of its pages (GinMetaPageData)."""
    with open(path, "r+b") as file:
        file.seek(36)
        file.write(struct.pack("=I", pages.pending))
        file.seek(48)
        file.write(struct.pack("=3Iiq", pages.total, pages.entry, pages.data, 0, pages.entries))


def assumed_gin(pages: int) -> GinPages:
    """The pages of a GIN index of which nothing is known but its size.

    As gincostestimate() assumes them: 90 % entry pages of 100 entries.
    """
    entry = max(int(pages * 0.9), 1)
    return GinPages(0, pages, entry, max(pages - entry - 1, 0), entry * 100)


def write_brin(path: str, heap_pages: int) -> None:
    """Set the length of a BRIN index's range map for a heap of so many pages."""
    with open(path, "r+b") as file:
        file.seek(32)
        per_range = struct.unpack("=I", file.read(4))[0] or 128
        file.seek(36)
        file.write(struct.pack("=I", brin_map_pages(heap_pages, per_range)))


def brin_map_pages(heap_pages: int, per_range: int) -> int:
    """Pages of the range map: 1360 item pointers each (REVMAP_PAGE_MAXITEMS), the last one's number."""
    return max(1, math.ceil(math.ceil(heap_pages / per_range) / 1360))


def _page(level: int, flags: int, child: int | None = None) -> bytes:
    page = bytearray(PAGE)
    lower, upper = 24, PAGE - 16
    if child is not None:  # one minus-infinity pivot tuple: the link down
        upper -= 8
        lower += 4
        struct.pack_into("<HHHH", page, upper, child >> 16, child & 0xFFFF, 0, 8 | 0x2000)
        struct.pack_into("<I", page, 24, upper | (1 << 15) | (8 << 17))
    struct.pack_into("<QHHHHHHI", page, 0, 0, 0, 0, lower, upper, PAGE - 16, PAGE | 4, 0)
    struct.pack_into("<IIIHH", page, PAGE - 16, 0, 0, level, flags, 0)
    return bytes(page)
