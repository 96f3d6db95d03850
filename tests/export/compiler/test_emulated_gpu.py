"""The emulated GPU: what it computes, what it counts, and every fault that it must find."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")

from shiftedge.export.compiler.verify.gpu.decode import decode
from shiftedge.export.compiler.verify.gpu.machine import (
    FAULTS,
    DeviceArray,
    Launch,
    Module,
)
from shiftedge.runtime.errors import CompileError

THREADS = 64
HEAD = """.version 6.3
.target sm_53
.address_size 64
.visible .entry k(
	.param .u64 .ptr .align 16 k_param_0,
	.param .u64 .ptr .align 16 k_param_1
)
{
	.reg .pred %p<4>;
	.reg .b16 %rs<4>;
	.reg .b32 %r<16>;
	.reg .b64 %rd<12>;
	.shared .align 16 .b8 tile[256];
	ld.param.b64 %rd1, [k_param_0];
	ld.param.b64 %rd2, [k_param_1];
	mov.u32 %r1, %tid.x;
	mul.wide.u32 %rd3, %r1, 4;
	add.s64 %rd9, %rd1, %rd3;
	add.s64 %rd10, %rd2, %rd3;
"""
REVERSED = (
    HEAD
    + """	mov.b64 %rd4, tile;
	add.s64 %rd5, %rd4, %rd3;
	ld.global.nc.b32 %r2, [%rd9];
	st.shared.b32 [%rd5], %r2;
	bar.sync 0;
	xor.b32 %r3, %r1, 63;
	mul.wide.u32 %rd7, %r3, 4;
	add.s64 %rd8, %rd4, %rd7;
	ld.shared.b32 %r4, [%rd8];
	st.global.b32 [%rd10], %r4;
	ret;
}
"""
)
"""Each thread takes the number of the thread at the other end, of another warp."""
GIVEN = np.arange(THREADS, dtype=np.float32)


def launched(
    text: str, given: np.ndarray = GIVEN, threads: int = THREADS, limit: int = 1 << 20
) -> tuple[Launch, np.ndarray]:
    made = np.zeros(THREADS, given.dtype)
    arrays = [
        DeviceArray("given", given.copy(), writable=False, known=True),
        DeviceArray("made", made, writable=True, known=False),
    ]
    return Module(text).launch("k", 1, threads, arrays, limit), made


def test_a_kernel_without_fault() -> None:
    done, made = launched(REVERSED)
    assert done.faults == ()
    np.testing.assert_array_equal(made, GIVEN[::-1])
    assert done.loads.requests == done.stores.requests == 2
    assert done.loads.lines == 2
    assert done.loads.sectors == 8
    assert done.loads.used == done.stores.used == 1.0
    assert done.shared_loads.conflicts == done.shared_stores.conflicts == 1.0
    assert done.instructions["barrier"] == 2
    assert done.lanes == 32 * done.issued


# What is replaced by what, and the faults that come of it.
PLANTED: dict[str, tuple[Sequence[tuple[str, str]], set[str]]] = {
    "no barrier": ((("bar.sync 0;", ""),), {"race", "read of what has no value"}),
    "behind a map": ((("[%rd9]", "[%rd9+4]"),), {"out of bounds"}),
    "before a map": ((("[%rd10]", "[%rd10+-4]"),), {"out of bounds"}),
    "behind shared memory": ((("tile[256]", "tile[252]"),), {"out of bounds"}),
    "another's place": ((("[%rd10]", "[%rd2]"),), {"race"}),
    "to what is only read": ((("st.global.b32 [%rd10]", "st.global.b32 [%rd9]"),), {FAULTS[1]}),
    "nothing stored": ((("st.shared.b32 [%rd5], %r2;", ""),), {"read of what has no value"}),
    "between two numbers": ((("[%rd9]", "[%rd9+2]"),), {"misaligned", "out of bounds"}),
    "a vector at a number": (
        (("ld.global.nc.b32 %r2, [%rd9]", "ld.global.nc.v2.b32 {%r2, %r9}, [%rd9]"),),
        {"misaligned", "out of bounds"},
    ),
    "some lanes at a barrier": (
        (("bar.sync 0;", "setp.lt.u32 %p1, %r1, 20; @%p1 bra $L1; bar.sync 0;\n$L1:\n"),),
        {"barrier that only some reach"},
    ),
    "one warp at a barrier": (
        (("bar.sync 0;", "setp.lt.u32 %p1, %r1, 32; @%p1 bra $L1; bar.sync 0;\n$L1:\n"),),
        {"barrier that only some reach", "race", "read of what has no value"},
    ),
    "a shuffle of half a warp": (
        (
            (
                "bar.sync 0;",
                "setp.lt.u32 %p1, %r1, 16; @%p1 bra $L1; shfl.sync.bfly.b32 %r9, %r2, 1, "
                "31, -1;\n$L1:\n bar.sync 0;",
            ),
        ),
        {"exchange with a lane that is not there"},
    ),
    "a shuffle that names too few": (
        (("bar.sync 0;", "shfl.sync.bfly.b32 %r9, %r2, 1, 31, 65535; bar.sync 0;"),),
        {"exchange with a lane that is not there"},
    ),
    "a matrix product of half a warp": (
        (
            (
                "bar.sync 0;",
                "setp.lt.u32 %p1, %r1, 16; @%p1 bra $L1; "
                "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%r9, %r10, %r11, %r12}, "
                "{%r2, %r2}, {%r2}, {%r2, %r2, %r2, %r2};\n"
                "$L1:\n bar.sync 0;",
            ),
        ),
        {"exchange with a lane that is not there"},
    ),
    "no end": ((("bar.sync 0;", "\n$L1:\n bra.uni $L1;"),), {"endless"}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_are_found(name: str) -> None:
    changes, kinds = PLANTED[name]
    text = REVERSED
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    done, _ = launched(text, limit=5000)
    assert {each.kind for each in done.faults} == kinds
    for each in done.faults:
        assert "block 0, thread" in str(each)


def test_a_fault_says_where() -> None:
    done, _ = launched(REVERSED, GIVEN[:-1])
    assert [str(each) for each in done.faults] == [
        "out of bounds (1 times, first at 'ld.global.nc.b32 %r2, [%rd9]', block 0, thread 63, "
        "byte 252 of given[252])"
    ]


def test_lanes_part_and_meet() -> None:
    """A loop of as many turns as a lane's number says, and a choice in it."""
    body = """	and.b32 %r2, %r1, 7;
	mov.b32 %r3, 0;
	mov.b32 %r4, 0;
$L1:
	setp.ge.s32 %p1, %r4, %r2;
	@%p1 bra $L4;
	and.b32 %r5, %r4, 1;
	setp.eq.b32 %p2, %r5, 0;
	@!%p2 bra $L2;
	add.s32 %r3, %r3, 100;
	bra.uni $L3;
$L2:
	add.s32 %r3, %r3, 1;
$L3:
	add.s32 %r4, %r4, 1;
	bra.uni $L1;
$L4:
	st.global.b32 [%rd10], %r3;
	ret;
}
"""
    done, made = launched(HEAD + body, np.zeros(THREADS, np.int32))
    turns = np.arange(THREADS) % 8
    np.testing.assert_array_equal(made, (turns + 1) // 2 * 100 + turns // 2)
    assert done.faults == ()
    assert 0 < done.divergent < done.branches
    assert done.stores.requests == 2  # all lanes together again


@pytest.mark.parametrize(("stride", "ways"), [(4, 1), (8, 2), (16, 4), (128, 32)])
def test_bank_conflicts(stride: int, ways: int) -> None:
    text = REVERSED.replace("tile[256]", f"tile[{64 * stride}]")
    text = text.replace("add.s64 %rd5, %rd4, %rd3", f"mul.wide.u32 %rd6, %r1, {stride}; "
                        "add.s64 %rd5, %rd4, %rd6")  # fmt: skip
    text = text.replace("%rd7, %r3, 4", f"%rd7, %r3, {stride}")
    done, made = launched(text)
    np.testing.assert_array_equal(made, GIVEN[::-1])
    assert done.shared_stores.conflicts == done.shared_loads.conflicts == ways


def test_sectors_that_are_little_used() -> None:
    text = REVERSED.replace("[%rd9]", "[%rd11]")
    scattered = "mul.wide.u32 %rd6, %r1, 32; add.s64 %rd11, %rd1, %rd6; ld.global.nc"
    done, _ = launched(text.replace("ld.global.nc", scattered), np.zeros(8 * THREADS, np.float32))
    assert done.faults == ()
    assert done.loads.sectors == THREADS
    assert done.loads.used == 4 / 32


def test_conversions_read_the_lower_bits() -> None:
    """As LLVM writes them: of a wider register."""
    body = """	mul.wide.u32 %rd4, %r1, 65535;
	cvt.s64.s32 %rd5, %rd4;
	cvt.u32.u64 %r2, %rd5;
	cvt.u16.u32 %rs1, %r2;
	mul.lo.s16 %rs2, %rs1, 3;
	cvt.u32.u8 %r3, %rs2;
	st.global.b32 [%rd10], %r3;
	ret;
}
"""
    done, made = launched(HEAD + body, np.zeros(THREADS, np.int32))
    assert done.faults == ()
    np.testing.assert_array_equal(made, np.arange(THREADS) * 65535 * 3 % 65536 % 256)


def test_wider_registers() -> None:
    """What is loaded stands below zeros, and the lower bits are stored."""
    body = """	mov.b64 %rd4, -1;
	ld.global.nc.b16 %rd4, [%rd9];
	add.s64 %rd5, %rd4, 4294967296;
	st.global.b32 [%rd10], %rd5;
	ret;
}
"""
    given = np.arange(THREADS, dtype=np.int32) * 65537 + 7
    done, made = launched(HEAD + body, given)
    assert done.faults == ()
    np.testing.assert_array_equal(made, given & 65535)


@pytest.mark.parametrize(
    ("words", "lane"),
    [
        ("bfly.b32 %r3, %r1, 5, 31, -1", lambda lane: lane ^ 5),
        ("down.b32 %r3, %r1, 3, 31, -1", lambda lane: np.where(lane < 29, lane + 3, lane)),
        ("up.b32 %r3, %r1, 3, 0, -1", lambda lane: np.where(lane > 2, lane - 3, lane)),
        ("idx.b32 %r3, %r1, 7, 31, -1", lambda lane: 0 * lane + 7),
        ("down.b32 %r3|%p1, %r1, 1, 6175, -1",
         lambda lane: np.where(lane % 8 < 7, lane + 1, lane)),
    ],
)  # fmt: skip
def test_shuffles(words: str, lane: Callable[[np.ndarray], np.ndarray]) -> None:
    body = f"\tshfl.sync.{words};\n\tst.global.b32 [%rd10], %r3;\n\tret;\n}}\n"
    done, made = launched(HEAD + body, np.zeros(THREADS, np.int32))
    assert done.faults == ()
    number = np.arange(THREADS)
    np.testing.assert_array_equal(made, number - number % 32 + lane(number % 32))
    assert done.instructions["shuffle"] == 2


# Of each product: rows, columns and depth, and where each of a lane's elements lies (of m8n8k4 the
# lanes of the first group of 8), as the PTX ISA draws it.
LANE = np.arange(32)[:, None]
GROUP, MEMBER = LANE // 4, LANE % 4
SUMS = np.add(GROUP, [0, 0, 8, 8]), np.add(2 * MEMBER, [0, 1, 0, 1])
FRAGMENTS = {
    "m16n8k16.row.col.f32.f16.f16.f32": (
        (16, 8, 16), (GROUP + [0, 0, 8, 8] * 2, 2 * MEMBER + [0, 1, 0, 1, 8, 9, 8, 9]),
        (2 * MEMBER + [0, 1, 8, 9], GROUP + [0] * 4),
        SUMS,
    ),
    "m16n8k8.row.col.f32.f16.f16.f32": (
        (16, 8, 8), SUMS,
        (2 * MEMBER + [0, 1], GROUP + [0] * 2), SUMS,
    ),
    "m16n8k32.row.col.s32.s8.s8.s32": (
        (16, 8, 32),
        (GROUP + ([0] * 4 + [8] * 4) * 2,
         4 * MEMBER + [0, 1, 2, 3, 0, 1, 2, 3, 16, 17, 18, 19, 16, 17, 18, 19]),
        (4 * MEMBER + [0, 1, 2, 3, 16, 17, 18, 19], GROUP + [0] * 8),
        SUMS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAGMENTS)
def test_matrix_products(name: str) -> None:
    (rows, columns, depth), a, b, c = FRAGMENTS[name]
    rng, whole = np.random.default_rng(0), "s8" in name
    low, high = (-128, 128) if whole else (-3, 4)
    left, right = (rng.integers(low, high, size) for size in ((rows, depth), (depth, columns)))
    dtype, result = (np.int8, np.int32) if whole else (np.float16, np.float32)
    words = [left[a].astype(dtype), right[b].astype(dtype)]
    lanes = np.concatenate([each.view(np.int32) for each in words], axis=1)
    given, per = np.ascontiguousarray(lanes), lanes.shape[1]
    reads = "".join(
        f"\tld.global.nc.b32 %r{2 + place}, [%rd11+{4 * place}];\n" for place in range(per)
    )
    first, second = (each.view(np.int32).shape[1] for each in words)
    numbers = range(10, 14), range(2, 2 + first), range(2 + first, 2 + first + second), [9] * 4
    lists = [[f"%r{number}" for number in each] for each in numbers]
    operands = ", ".join(f"{{{', '.join(each)}}}" for each in lists)
    body = f"""	mul.wide.u32 %rd4, %r1, {4 * per};
	add.s64 %rd11, %rd1, %rd4;
	mul.wide.u32 %rd5, %r1, 16;
	add.s64 %rd6, %rd2, %rd5;
{reads}	mov.b32 %r9, 0;
	mma.sync.aligned.{name} {operands};
	st.global.v4.b32 [%rd6], {{%r10, %r11, %r12, %r13}};
	ret;
}}
"""
    made = np.zeros((32, 4), result)
    arrays = [
        DeviceArray("given", given, writable=False, known=True),
        DeviceArray("made", made.reshape(-1), writable=True, known=False),
    ]
    done = Module(HEAD + body).launch("k", 1, 32, arrays)
    assert done.faults == ()
    want = left.astype(np.int64) @ right
    np.testing.assert_array_equal(made, want[c])
    assert done.instructions["tensor"] == 1


@pytest.mark.parametrize(
    "line",
    [
        "shfl.bfly.b32 %r2, %r1, 1, 31;",
        "shfl.sync.any.b32 %r2, %r1, 1, 31, -1;",
        "mma.sync.aligned.m16n8k16.row.row.f32.f16.f16.f32 {%r1}, {%r1}, {%r1}, {%r1};",
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%r1}, {%r1}, {%r1}, {%r1};",
        "prmt.b32 %r2, %r1, %r1, 0;",
        "ld.local.b32 %r2, [%rd9];",
        "ld.b32 %r2, [%rd9];",
        "ld.global.b64 %r2, [%rd9];",
        "add.s32 %r2, %r1, %rd1;",
        "add.s32 %r2, %r1, %r99;",
        "add.s32 %r2, %r1;",
        "setp.lt.u32 %r2, %r1, 3;",
        "mov.u32 %r2, %tid.y;",
        "bar.sync 1;",
        "bra.uni $L9;",
        "call elsewhere, ();",
        ".local .align 4 .b8 own[16];",
        "?",
    ],
)
def test_what_is_not_known_is_refused(line: str) -> None:
    decode(REVERSED)
    with pytest.raises(CompileError, match="does not know"):
        decode(REVERSED.replace("bar.sync 0;", line))


@pytest.mark.parametrize(
    "change",
    [(")\n{", ")\n.maxntid 64\n{"), (".version", ".extern .func f;\n.version"), ("\tret;", "")],
)
def test_a_text_that_is_not_known_is_refused(change: tuple[str, str]) -> None:
    with pytest.raises(CompileError, match="does not know"):
        decode(REVERSED.replace(*change))
