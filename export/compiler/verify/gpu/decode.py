"""PTX as LLVM writes it -> instructions of ``machine.c``.

Every line is known, or refused: one that is skipped in silence is a wrong result. Operands are
registers one and all, numbers and special registers too. Where the lanes that part at a branch meet
again is found here: the immediate post-dominator of its block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from shiftedge.runtime.errors import CompileError

SHARED_SHIFT = 20
"""See ``machine.c``."""
_SPECIAL = {"%tid.x": "tid", "%ctaid.x": "ctaid", "%ntid.x": "ntid", "%nctaid.x": "nctaid"}
_SPECIAL |= {"%laneid": "laneid"}
_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


@dataclass
class PtxInstruction:
    """One, as ``machine.c`` takes it; a line of PTX may be several."""

    op: str
    line: str
    """Of PTX."""
    d: tuple[int, ...] = ()
    a: int = 0
    b: int = 0
    c: int = 0
    more: tuple[int, ...] = ()
    """Operands beside those."""
    guard: int = 0
    negated: bool = False
    offset: int = 0
    target: str = ""
    """Label of a branch."""
    bytes: int = 0
    count: int = 0


@dataclass
class PtxKernel:
    """A decoded ``.entry``."""

    name: str
    code: list[PtxInstruction] = field(default_factory=list)
    registers: dict[str, int] = field(default_factory=lambda: {"": 0})
    """By name; constants by their value."""
    constants: list[tuple[int, int, bool]] = field(default_factory=list)
    """Register, value, whether it has 64 bits."""
    parameters: list[int] = field(default_factory=list)
    """The register of each."""
    shared: dict[str, int] = field(default_factory=dict)
    """Bytes by name."""
    special: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    meets: list[int] = field(default_factory=list)
    """Of each instruction that is a branch, where its lanes meet; the code's length otherwise."""


def decode(text: str) -> dict[str, PtxKernel]:
    """The kernels of a text, by name.

    Raises:
        CompileError: it holds a line that is not known.
    """
    text = re.sub(r"//.*", "", text)
    pattern = r"\.visible\s+\.entry\s+(\w+)\((.*?)\)(.*?)\{(.*?)^\}"
    result, outside, end = {}, "", 0
    for found in re.finditer(pattern, text, re.S | re.M):
        outside += text[end : found.start()]
        end = found.end()
        name, parameters, directives, body = found.groups()
        if directives.strip():
            raise _unknown(directives)
        result[name] = _Decoder(name, parameters, body).kernel
    outside += text[end:]
    rest = re.sub(r"^\.(version \d+\.\d+|target \w+|address_size 64)$", "", outside, flags=re.M)
    if rest.strip():
        raise _unknown(rest)
    return result


def _unknown(line: str) -> CompileError:
    return CompileError(f"The emulated GPU does not know {line.strip()!r}; it runs nothing of it.")


_PLAIN = {
    "mul.wide.u32": "mul_wide_u32", "mul.wide.s32": "mul_wide_s32",
    "mad.wide.u32": "mad_wide_u32", "mad.wide.s32": "mad_wide_s32",
    "mul.hi.u32": "mul_hi_u32", "mul.hi.s32": "mul_hi_s32",
    "shr.u32": "shr_u32", "shr.s32": "shr_s32", "shr.u64": "shr_u64", "shr.b32": "shr_u32",
    "shl.b32": "shl_32", "shl.b64": "shl_64", "not.b32": "not_32", "bfe.u32": "bfe_u32",
    "neg.s32": "neg_32", "neg.f32": "neg_f32", "abs.f32": "abs_f32",
    "copysign.f32": "copysign_f32", "div.rn.f32": "div_f32", "rcp.rn.f32": "rcp_f32",
    "rcp.approx.ftz.f32": "rcp_f32", "sqrt.rn.f32": "sqrt_f32", "fma.rn.f32": "fma_f32",
    "ex2.approx.f32": "ex2_f32", "ex2.approx.ftz.f32": "ex2_f32",
    "cvta.to.global.u64": "mov_64", "cvt.u64.u32": "cvt_u64_u32", "cvt.s64.s32": "cvt_s64_s32",
    "cvt.u32.u64": "cvt_u32_u64", "cvt.f32.f16": "cvt_f32_f16", "cvt.rn.f16.f32": "cvt_f16_f32",
    "cvt.rn.f16x2.f32": "cvt_f16x2_f32", "fma.rn.f16": "fma_f16", "fma.rn.f16x2": "fma_f16x2",
    "add.f16": "add_f16", "add.rn.f16": "add_f16", "mul.f16": "mul_f16", "mul.rn.f16": "mul_f16",
    "add.f16x2": "add_f16x2", "add.rn.f16x2": "add_f16x2", "mul.f16x2": "mul_f16x2",
    "mul.rn.f16x2": "mul_f16x2",
    "cvt.rn.f32.s32": "cvt_f32_s32",
    "cvt.rn.f32.u32": "cvt_f32_u32", "cvt.rzi.s32.f32": "cvt_rzi_s32_f32",
    "cvt.u32.u16": "low_16", "cvt.s32.s16": "sign_16", "cvt.u16.u32": "low_16",
    "cvt.u32.u8": "low_8", "cvt.u16.u8": "low_8", "cvt.s32.s8": "sign_8",
    "cvt.rn.f32.u8": "cvt_f32_u32", "cvt.rn.f32.u16": "cvt_f32_u32",
    "selp.b16": "selp_32", "selp.b32": "selp_32", "selp.f32": "selp_32", "selp.s32": "selp_32",
    "selp.u32": "selp_32", "selp.b64": "selp_64", "mov.pred": "mov_pred", "not.pred": "not_pred",
    "and.pred": "and_pred", "or.pred": "or_pred", "xor.pred": "xor_pred",
    "mov.b16": "mov_32", "mov.u16": "mov_32", "and.b16": "and_32", "or.b16": "or_32",
    "add.s16": "add_16", "sub.s16": "sub_16", "mul.lo.s16": "mul_16", "shl.b16": "shl_16",
    "mul.hi.u16": "mul_hi_u16", "mul.wide.u16": "mul_32", "shr.u16": "shr_u32",
    "cvt.u64.u16": "cvt_u64_u32", "setp.eq.b16": "setp_eq_32", "setp.ne.b16": "setp_ne_32",
    "mad.lo.s16": "mad_16", "cvt.u16.u64": "cvt_u16_u64", "cvt.rzi.f32.f32": "cvt_rzi_f32_f32",
    "min.u64": "min_u64", "max.u64": "max_u64",
    "min.u16": "min_u32", "max.u16": "max_u32",
}  # fmt: skip
for _op in ("mov", "and", "or"):
    for _type in ("b32", "u32", "s32", "f32", "b64", "u64"):
        _PLAIN[f"{_op}.{_type}"] = f"{_op}_{_type[1:]}"
_PLAIN["xor.b32"] = "xor_32"
for _sign in "sub":
    for _size in ("32", "64"):
        for _op, _name in (("add", "add"), ("sub", "sub"), ("mul.lo", "mul"), ("mad.lo", "mad")):
            _PLAIN[f"{_op}.{_sign}{_size}"] = f"{_name}_{_size}"
for _sign in "su":
    for _op in ("min", "max"):
        _PLAIN[f"{_op}.{_sign}32"] = f"{_op}_{_sign}32"
for _op in ("add", "sub", "mul"):
    _PLAIN[f"{_op}.f32"] = _PLAIN[f"{_op}.rn.f32"] = f"{_op}_f32"
for _op in ("min", "max"):
    _PLAIN[f"{_op}.f32"] = f"{_op}_f32"
for _relation in ("lt", "le", "gt", "ge"):
    _PLAIN[f"setp.{_relation}.u16"] = f"setp_{_relation}_u32"
    for _type in ("s32", "u32", "f32"):
        _PLAIN[f"setp.{_relation}.{_type}"] = f"setp_{_relation}_{_type}"
for _relation in ("eq", "ne"):
    for _sign in "sub":
        for _size in ("32", "64"):
            _PLAIN[f"setp.{_relation}.{_sign}{_size}"] = f"setp_{_relation}_{_size}"
_PLAIN |= {"setp.lt.s64": "setp_lt_s64", "setp.lt.u64": "setp_lt_u64"}
_PLAIN |= {"setp.eq.f32": "setp_eq_f32", "setp.neu.f32": "setp_neu_f32"}


_MATRICES = {
    "m16n8k16.row.col.f32.f16.f16.f32": ("m16n8k16_f16", 4, 2, 4),
    "m16n8k8.row.col.f32.f16.f16.f32": ("m16n8k8_f16", 2, 1, 4),
    "m8n8k4.row.col.f32.f16.f16.f32": ("m8n8k4_f16", 2, 2, 8),
    "m16n8k32.row.col.s32.s8.s8.s32": ("m16n8k32_s8", 4, 2, 4),
    "m8n8k16.row.col.s32.s8.s8.s32": ("m8n8k16_s8", 1, 1, 2),
}
"""Of mma.sync.aligned: the operation, and registers of a, b and c."""


_OPERANDS = dict.fromkeys(("fma", "mad", "bfe", "selp"), 3)
_OPERANDS |= dict.fromkeys(["mov", "not", "neg", "abs", "cvt", "cvta", "rcp", "sqrt", "ex2"], 1)
"""How many an instruction reads, where not 2."""


class _Decoder:
    def __init__(self, name: str, parameters: str, body: str) -> None:
        self.kernel = PtxKernel(name)
        self.values: dict[str, int] = {}
        """The register that a name stands for."""
        self.bits: dict[int, str] = {}
        """Of each register; "pred" of predicates."""
        for number, each in enumerate(filter(None, map(str.strip, parameters.split(",")))):
            found = re.fullmatch(r"\.param \.u64 \.ptr(?: \.global)? \.align \d+ (\w+)", each)
            if found is None:
                raise _unknown(each)
            self.kernel.parameters.append(self._register(f"parameter {number}", "64"))
            self.values[found[1]] = self.kernel.parameters[-1]
        for statement in re.sub(r"^\s*(\$?\w+):", r"\1:;", body, flags=re.M).split(";"):
            line = re.sub(r"^[\s{}]+", "", statement).strip()
            if line.rstrip("}").strip():
                self._statement(re.sub(r"\s+", " ", line))
        self._flow()

    def _statement(self, line: str) -> None:
        kernel = self.kernel
        if found := re.fullmatch(r"\.reg \.(\w+) ((?:%?\w+(?:<\d+>)?(?:, )?)+)", line):
            bits = _bits_of(found[1])
            for name, count in re.findall(r"(%?\w+)(?:<(\d+)>)?", found[2]):
                for number in map(str, range(int(count))) if count else [""]:
                    self.values[name + number] = self._register(name + number, bits)
        elif found := re.fullmatch(r"\.shared \.align \d+ \.b8 (\w+)\[(\d+)\]", line):
            kernel.shared[found[1]] = int(found[2])
            self.values[found[1]] = self._constant(len(kernel.shared) << SHARED_SHIFT, "64")
        elif found := re.fullmatch(r"(\$?\w+):", line):
            kernel.labels[found[1]] = len(kernel.code)
        elif found := re.fullmatch(r"(?:@(!?)(%\w+) )?([a-z][\w.]*)(?: (.*))?", line):
            negated, guard, op, operands = found.groups()
            before = len(kernel.code)
            try:
                kernel.code += self._instructions(op, _operands(operands or ""), line)
                for each in kernel.code[before:]:
                    if guard:
                        each.guard, each.negated = 1 + self._read(guard, "pred"), bool(negated)
            except (IndexError, ValueError):  # operands that an instruction of the name has not
                raise _unknown(line) from None
        else:
            raise _unknown(line)

    def _instructions(self, op: str, args: list[str], line: str) -> Iterator[PtxInstruction]:
        words = op.split(".")
        size = _bits_of(words[-1])
        if op in ("bra", "bra.uni") and len(args) == 1:
            yield PtxInstruction("branch", line, target=args[0])
        elif op == "ret" and not args:
            yield PtxInstruction("ret", line)
        elif op in ("bar.sync", "barrier.sync") and args == ["0"]:
            yield PtxInstruction("barrier", line)
        elif words[:2] == ["ld", "param"]:
            source = self._read(args[1].strip("[]"), size)
            yield PtxInstruction("mov_64", line, (self._read(args[0], "64"),), source)
        elif words[0] in ("ld", "st"):
            yield from self._memory(words, args, line)
        elif words[:2] == ["shfl", "sync"] and len(words) == 4 and words[3] == "b32":
            yield self._exchange(words[2], args, line)
        elif words[:3] == ["mma", "sync", "aligned"] and ".".join(words[3:]) in _MATRICES:
            yield self._matrices(".".join(words[3:]), args, line)
        elif words[0] == "mov" and "{" in line:
            half = str(int(size) // 2)
            if args[1].startswith("{"):
                low, high = (self._read(each, half) for each in _operands(args[1].strip("{}")))
                yield PtxInstruction(f"pack_{half}", line, (self._read(args[0], size),), low, high)
                return
            source = self._read(args[1], size)
            for place, name in zip(("low", "high"), _operands(args[0].strip("{}")), strict=True):
                if name != "_":
                    target = (self._read(name, half),)
                    yield PtxInstruction(f"{place}_{half}", line, target, source)
        elif op in _PLAIN:
            yield from self._plain(op, args, line)
        else:
            raise _unknown(line)

    def _plain(self, op: str, args: list[str], line: str) -> Iterator[PtxInstruction]:
        """What is one operation of ``machine.c``, after a conversion's narrowing: it may read the
        lower bits of a wider register."""
        words = op.split(".")
        wanted = 2 if op == "cvt.rn.f16x2.f32" else _OPERANDS.get(words[0], 2)
        if len(args) != 1 + wanted:
            raise _unknown(line)
        size = _bits_of(words[-1])
        made = _bits_of(words[-2]) if words[0] == "cvt" else size
        sizes = [size] * (len(args) - 1)
        if "wide" in words:
            made = str(2 * int(size))
            sizes[2:] = [made] * len(sizes[2:])
        elif words[0] == "setp":
            made = "pred"
        elif words[0] == "selp":
            sizes[2] = "pred"
        elif words[0] in ("shl", "shr"):
            sizes[1] = "32"
        operands = []
        for each, own in zip(args[1:], sizes, strict=True):
            held = self.bits.get(self.values.get(each, -1), own)
            if words[0] == "cvt" and held != own:
                narrow, register = self._register(f"{each} as {own}", own), self.values[each]
                if held == "64":
                    yield PtxInstruction("low_32", line, (narrow,), register)
                    register = narrow
                if own != "32":
                    yield PtxInstruction(f"low_{own}", line, (narrow,), register)
                operands.append(narrow)
            else:
                operands.append(self._read(each, own))
        a, b, c = (*operands, 0, 0, 0)[:3]
        yield PtxInstruction(_PLAIN[op], line, (self._read(args[0], made),), a, b, c)

    def _memory(self, words: list[str], args: list[str], line: str) -> Iterator[PtxInstruction]:
        """ld.global.nc.v4.b32 {...}, [%rd1+16] and the like."""
        kind, space, *how, dtype = words
        count = {"v2": 2, "v4": 4}.get(how[-1], 1) if how else 1
        plain = [each for each in how if each not in ("nc", "v2", "v4")]
        size = dtype[1:]
        if plain or space not in ("global", "shared") or size not in _BYTES or dtype[0] == "s":
            raise _unknown(line)
        place, data = (args[1], args[0]) if kind == "ld" else (args[0], args[1])
        found = re.fullmatch(r"\[([%\w]+)(?:\+?(-?\d+))?\]", place)
        names = _operands(data.strip("{}"))
        if found is None or len(names) != count:
            raise _unknown(line)
        registers, behind = [], []
        for each in names:
            held = self.bits.get(self.values.get(each, -1), size)
            if held == "64" and size != "64":  # its lower bits, or zeros before what is loaded
                narrow, own = self._register(f"{each} as 32", "32"), self.values[each]
                if kind == "st":
                    yield PtxInstruction("low_32", line, (narrow,), own)
                else:
                    behind.append(PtxInstruction("cvt_u64_u32", line, (own,), narrow))
                registers.append(narrow)
                continue
            # Bytes and halves are the lower bits of a register.
            registers.append(self._read(each, held if size in ("8", "16") else size))
        name = f"{'load' if kind == 'ld' else 'store'}_{space}"
        yield PtxInstruction(
            name, line, tuple(registers), self._read(found[1], "64"), offset=int(found[2] or 0),
            bytes=_BYTES[size], count=count,
        )  # fmt: skip
        yield from behind

    def _exchange(self, how: str, args: list[str], line: str) -> PtxInstruction:
        """shfl.sync.bfly.b32 %r1|%p1, %r2, 16, 31, -1 and the like."""
        target, _, inside = args[0].partition("|")
        value, by, limit, named = (self._read(each, "32") for each in args[1:])
        more = by, limit, named, 1 + self._read(inside, "pred") if inside else 0
        name = f"shfl_{how}"
        if how not in ("bfly", "up", "down", "idx"):
            raise _unknown(line)
        return PtxInstruction(name, line, (self._read(target, "32"),), value, more=more)

    def _matrices(self, shape: str, args: list[str], line: str) -> PtxInstruction:
        """mma.sync.aligned.m16n8k16...: {d}, {a}, {b}, {c}."""
        name, *sizes = _MATRICES[shape]
        lists = [[self._read(each, "32") for each in _operands(arg.strip("{}"))] for arg in args]
        made, *given = lists
        if list(map(len, lists)) != [sizes[2], *sizes]:
            raise _unknown(line)
        more = tuple(register for each in given for register in each)
        return PtxInstruction(f"mma_{name}", line, tuple(made), more=more)

    # Operands

    def _register(self, name: str, bits: str) -> int:
        number = self.kernel.registers.setdefault(name, len(self.kernel.registers))
        self.bits[number] = bits
        return number

    def _constant(self, value: int, bits: str) -> int:
        name = f"number {value} of {bits} bits"
        if name not in self.kernel.registers:
            self.kernel.constants.append((self._register(name, bits), value, bits == "64"))
        return self.kernel.registers[name]

    def _read(self, operand: str, bits: str) -> int:
        """The register of an operand, which must have so many bits."""
        if operand in self.values:
            if self.bits[self.values[operand]] != bits:
                raise _unknown(f"{operand} as {bits} bits")
            return self.values[operand]
        if operand in _SPECIAL and bits == "32":
            register = self._register(operand, bits)
            self.kernel.special[_SPECIAL[operand]] = register
            return register
        if (found := re.fullmatch(r"0[fF]([0-9A-Fa-f]{8})", operand)) and bits == "32":
            return self._constant(int(found[1], 16), bits)
        if operand in ("0", "-1") and bits == "pred":  # of no lane, of all
            return self._constant(int(operand) % (1 << 32), bits)
        if re.fullmatch(r"-?\d+|-?0x[0-9A-Fa-f]+", operand) and bits != "pred":
            return self._constant(int(operand, 0) % (1 << int(bits)), bits)
        raise _unknown(operand)

    # Control flow

    def _flow(self) -> None:
        """Where lanes that part meet again."""
        code, labels = self.kernel.code, self.kernel.labels
        end = len(code)
        if not code or code[-1].op not in ("ret", "branch"):
            raise _unknown("a kernel without an end")
        starts = {0, *labels.values()}
        starts |= {place + 1 for place, each in enumerate(code) if each.op in ("branch", "ret")}
        blocks = sorted(each for each in starts if each < end)
        after: dict[int, list[int]] = {}
        for first, stop in zip(blocks, [*blocks[1:], end], strict=True):
            last = code[stop - 1]
            if last.op == "branch":
                if last.target not in labels:
                    raise _unknown(last.line)
                after[first] = [labels[last.target], *([stop] if last.guard else [])]
            elif last.op == "ret":
                after[first] = [end, *([stop] if last.guard else [])]
            else:
                after[first] = [stop]
        every = frozenset((*blocks, end))
        behind = dict.fromkeys(blocks, every) | {end: frozenset((end,))}
        changed = True
        while changed:
            changed = False
            for block in reversed(blocks):
                both = frozenset.intersection(*(behind[each] for each in after[block])) | {block}
                changed, behind[block] = changed or both != behind[block], both
        self.kernel.meets = [end] * end
        for first, stop in zip(blocks, [*blocks[1:], end], strict=True):
            nearest = max(behind[first] - {first}, key=lambda each: len(behind[each]), default=end)
            self.kernel.meets[stop - 1] = nearest


def _bits_of(dtype: str) -> str:
    """Bits of a register of a type."""
    return {"pred": "pred", "f16x2": "32"}.get(dtype, dtype[1:])


def _operands(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    return [each.strip() for each in re.split(r",(?![^{\[]*[}\]])", text) if each.strip()]
