"""What ``shiftedge inspect`` prints: a spec or a bundle as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import BundleError
from shiftedge.runtime.manifest import Build, SelfTest
from shiftedge.runtime.process.tables import Table
from shiftedge.runtime.spec import ModelSpec
from shiftedge.runtime.words import plain

CELL_MOST = 200
"""Characters of a name or a value."""


def spec_text(spec: ModelSpec) -> str:
    """Frame, timing, labels, states and decoder."""
    return "\n".join(_spec_lines(spec))


def bundle_text(bundle: Bundle) -> str:
    """The spec, and what compiling made of it."""
    return "\n".join((*_spec_lines(bundle.manifest.spec), *_bundle_lines(bundle)))


def _spec_lines(spec: ModelSpec) -> Iterator[str]:
    decoder = spec.decoder
    silent = set(spec.silent_labels)
    yield f"name             {_text(spec.name)}"
    yield (
        f"frame            {spec.width}x{spec.height}, short side scaled to "
        f"{spec.resize_short_side}"
    )
    yield (
        f"frame rate       {spec.frame_rate_hz:g} Hz; a gap over {spec.max_gap_s:g} s empties "
        "the states"
    )
    yield (
        f"receptive field  {spec.receptive_field} frames "
        f"({spec.receptive_field / spec.frame_rate_hz:.2f} s)"
    )
    yield (
        f"decoder          enter {decoder.enter:g}, exit {decoder.exit:g}, smoothing "
        f"{decoder.smoothing_s:g} s, hold {decoder.min_duration_s:g} s, re-arm "
        f"{decoder.rearm_s:g} s"
    )
    yield f"labels           {spec.classes}{'' if silent else ', each of them an event'}"
    for index, label in enumerate(spec.labels):
        yield f"  {index:3d}  {_text(label)}{'  (never an event)' if label in silent else ''}"
    yield f"precision        {spec.precision}"
    yield f"states           {len(spec.states)}, {spec.state_bytes:,} bytes"
    for state in spec.states:
        line = f"  {_text(state.name):<10} {'x'.join(map(str, state.shape)):<12} {state.dtype}"
        if state.dtype == "uint8":
            line += f", {state.scale:.6g} * (q - {state.zero_point})"
        yield line


def _bundle_lines(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    yield f"target           {manifest.target}"
    yield f"precisions       {', '.join(manifest.builds)}"
    try:
        chosen = bundle.variant()
        yield f"on this machine  runs {chosen.name} in {chosen.precision}"
    except BundleError:
        yield "on this machine  cannot run"
    if gpus := bundle.gpu_variants():
        yield f"on its GPU       {', '.join(each.name for each in gpus)}, where that is there"
    yield f"variants         {len(manifest.variants)}, in order of preference"
    for variant in manifest.variants:
        size = manifest.files[variant.library].bytes
        yield (
            f"  {variant.name}  {variant.precision}, {variant.architecture}, {variant.library}, "
            f"{size:,} bytes"
        )
        yield f"    needs {' '.join(variant.features) or 'nothing special'}"
    yield "tools"
    yield from _values(manifest.tools)
    for precision, build in manifest.builds.items():
        yield from _build_lines(build, f" of {precision}" if manifest.others else "")


def _build_lines(build: Build, of: str) -> Iterator[str]:
    """Of a bundle of several precisions ``of`` says which one."""
    yield f"memory{of}"
    yield from _values(
        {key.removesuffix("_bytes"): f"{value:,} bytes" for key, value in build.memory.items()}
    )
    yield f"{'numerics' + of:<16} the compiled step against {_reference(build)}"
    yield from _values(_summary(build.numerics))
    test = build.selftest
    yield f"{'self-test' + of:<16} {_self_test(test) if test else 'none recorded'}"
    yield f"{'source' + of:<16} SHA-256 {build.source_sha256}"
    yield f"{'kernels' + of:<16} {len(build.kernels)}"
    yield from _table(build.kernels)
    for name, gpu in build.gpus.items():
        if list(gpu["kernels"]) == list(build.kernels):  # no processor has the precision
            continue
        yield f"memory of {_text(name)}"
        yield from _values(dict(gpu["memory"]))
        yield f"numerics of {_text(name)}"
        yield from _values(_summary(gpu["numerics"]))
        yield f"kernels of {_text(name)} {len(gpu['kernels'])}"
        yield from _table(gpu["kernels"])


def _reference(build: Build) -> str:
    """What it was compared with."""
    return _text(build.numerics.get("reference", "the ONNX file"))


def _self_test(test: SelfTest) -> str:
    return f"{len(test.logits)} frames of the clip {_text(test.clip)}, within {test.tolerance:g}"


def _values(values: Mapping[str, Any]) -> Iterator[str]:
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        yield f"  {key:<{width}}  {_text(value)}"


def _summary(report: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The report's single values, and of its lists how long they are and their worst row."""
    values: dict[str, Any] = {}
    for key, value in report.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            values.update(_summary(value, f"{name}."))
        elif isinstance(value, (list, tuple)):
            values[name] = _worst(value)
        else:
            values[name] = value
    return values


def _worst(rows: Sequence[Any]) -> str:
    """Rows are comparisons of tensors, as in shiftedge.export's report of a verification."""
    compared = [
        row
        for row in rows
        if isinstance(row, Mapping)
        and isinstance(row.get("worst"), float)
        and isinstance(row.get("scale"), float)
    ]
    if not compared:
        return f"{len(rows)} entries"
    row = max(compared, key=lambda each: each["worst"] / (each["scale"] or 1.0))
    return (
        f"{len(rows)} tensors; worst is {_text(row.get('tensor'))}, off by {row['worst']:.3g} "
        f"where the largest value is {row['scale']:.3g}"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The name first, numbers to the right."""
    keys = sorted({key for row in rows for key in row}, key=lambda key: (key != "name", key))
    numbers = [all(isinstance(row.get(key, 0), (int, float)) for row in rows) for key in keys]
    cells = [[_text(row.get(key, "")) for key in keys] for row in rows]
    align = "".join("r" if number else "l" for number in numbers)
    if keys:
        yield from (f"  {line}" for line in Table(keys, cells, align).lines())


def _text(value: object) -> str:
    """One line, whatever it is."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{_text(each)} {key}" for key, each in value.items())
    elif isinstance(value, (list, tuple)):
        value = ", ".join(map(_text, value))
    return plain(f"{value:,.6g}" if isinstance(value, float) else value, CELL_MOST)
