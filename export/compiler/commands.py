"""The command ``compile``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shiftedge.export.compiler.backends.base import Target
    from shiftedge.export.compiler.compile import Compiled

EXAMPLES = """\
examples:
  shiftedge compile my.onnx                               for this machine, into my-host/
  shiftedge compile my.onnx --target rpi4                 for a Raspberry Pi 4, into my-rpi4/
  shiftedge compile my.onnx --target jetson-nano          for its GPU and its processor
  shiftedge compile my.onnx my-int8.onnx                  both precisions in one bundle, my-host/
  shiftedge compile my.onnx --precision bf16,fp32 --target x86-64-v4
                                                          bf16 where the processor has it
  shiftedge compile my.onnx --precision fp16,fp32 --target jetson-nano
                                                          fp16 for its GPU, fp32 for both
  shiftedge compile my.onnx --explain                     why each kernel is as it is, and its time
  shiftedge compile my.onnx --dump my-stages              every stage on the way, as text
  shiftedge compile --list-targets
  shiftedge run my-host --source 0                        run what was compiled

The bundle is written once the compiled step and ONNX Runtime have been shown to agree on 32 frames
of a moving scene, logits and every state, for 1, 2 and 3 threads; otherwise nothing is, and the
exit status is 1. Of an int8 file (`shiftedge quantize`) every stored value is compared, bit for
bit, with the same integers in numpy, and in bf16 every state with the same roundings in numpy. For
a target that this machine cannot run, the same kernels are generated for this machine and compared.
An unchanged model comes from the cache.

A bundle of several precisions is run by the first variant that a processor can run, int8 first,
then bf16. A board with a GPU has a variant for it too, in fp32 and, where asked for, fp16, shown on
an emulated GPU over 3 frames; it is preferred where the board has the driver, fp16 first.
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parser to ``commands`` (argparse's special object)."""
    parser = commands.add_parser(
        "compile",
        help="turn an ONNX file into one small library that needs neither Python nor TVM",
        description="Compile the one-frame step of a model ahead of time into a bundle.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "model",
        nargs="*",
        metavar="MODEL.onnx",
        help="from `shiftedge export` or `shiftedge quantize`; of one model in several precisions, "
        "a file each",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        metavar="NAME",
        help="fp32, bf16 or, for GPUs, fp16 of a float32 file, int8 of a quantised one; several "
        "with commas between (default: auto, what each file is)",
    )
    parser.add_argument(
        "--target", default="host", metavar="NAME", help="of --list-targets (default: %(default)s)"
    )
    parser.add_argument(
        "--targets", metavar="FILE.toml", help="targets of your own, see docs/formats.md"
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="the bundle; one that stands there is replaced (default: MODEL-TARGET)",
    )
    parser.add_argument("--list-targets", action="store_true", help="print the targets and stop")
    parser.add_argument(
        "--explain", action="store_true", help="print each kernel's tiles, prediction and time"
    )
    parser.add_argument(
        "--dump",
        metavar="FOLDER",
        help="write graph, kernels and code too, as text, in a folder for each variant",
    )
    parser.add_argument("--no-verify", action="store_true", help="do not compare with ONNX Runtime")
    parser.add_argument(
        "--sign", metavar="KEY", help="PEM file of an Ed25519 private key to sign the bundle with"
    )
    parser.add_argument("--no-cache", action="store_true", help="compile even what is unchanged")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(handler=_compile, usage_error=parser.error)


@working("compiling")
def _compile(options: argparse.Namespace) -> int:
    own = {}
    if options.targets:
        from shiftedge.export.compiler.targets_file import read_targets

        own = read_targets(options.targets)
        if importlib.util.find_spec("tvm") is not None:
            from shiftedge.export.compiler.targets import check

            for target in own.values():
                check(target)
    if options.list_targets:
        return _list_targets(options.json, own)
    if not options.model:
        options.usage_error("name the .onnx file to compile, or pass --list-targets")
    if options.output == "":  # as of a shell's variable that is not set
        options.usage_error("--output is empty; name the bundle's folder, or leave it out")
    from shiftedge.runtime.process.extras import require

    for package in ("onnx", "tvm", "ziglang") + (() if options.no_verify else ("onnxruntime",)):
        require(package)
    from shiftedge.export.compiler.compile import compile_model
    from shiftedge.export.compiler.targets import backend_of, find_target, variants_of

    target = find_target(options.target, own)
    models = [Path(model) for model in options.model]
    shortest = min((model.stem for model in models), key=len)  # my of my and my-int8
    output = Path(options.output or f"{shortest}-{options.target}")
    compiled = compile_model(
        models,
        output,
        target=target,
        precision=options.precision,
        verify=not options.no_verify,
        use_cache=not options.no_cache,
        sign_with=options.sign,
    )
    if options.dump:
        from shiftedge.export.compiler.dump import dump_model

        dump_model(models, Path(options.dump), target, options.precision)
    explained = _explanations(compiled, target) if options.explain else []
    if options.json:
        print(json.dumps(_result(compiled, output, explained)))
        return 0
    if explained:
        for each in explained:
            every = variants_of(target, each["precision"])
            variant = next(one for one in every if one.name == each["variant"])
            if len(explained) > 1:
                print(f"{each['precision']}, {each['variant']}")
            rows = backend_of(variant.device).table(
                each["kernels"], variant, each["seconds"], each["peak_flops"]
            )
            say(rows, sys.stdout)
    say(_summary(compiled, output))  # stdout is kept for results
    return 0


def _list_targets(as_json: bool, own: Mapping[str, Target]) -> int:
    from shiftedge.export.compiler.targets import TARGETS, find_target
    from shiftedge.runtime.errors import CompileError

    targets = [*TARGETS.values(), *own.values()]
    # A machine that no target fits can still compile for another.
    with contextlib.suppress(CompileError):
        targets.insert(0, find_target("host"))
    rows = [_target_row(target) for target in targets]
    if as_json:
        print(json.dumps(rows))
        return 0
    print(
        f"{'name':<17} {'code':<11} {'vectors':>8} {'precision':<14} {'L1, L2':>14} {'cores':>5} "
        f"{'GPU':<6} {'glibc':<5}  for"
    )
    for row in rows:
        caches = f"{row['l1_bytes'] >> 10}, {row['l2_bytes'] >> 10} KiB"
        print(
            f"{row['name']:<17} {row['instructions']:<11} {row['vector_bits']:>4} bit "
            f"{' '.join(row['precisions']):<14} {caches:>14} {row['cores']:>5} "
            f"{(row['gpu'] or {'arch': '-'})['arch']:<6} {row['glibc']:<5}  {row['description']}"
        )
    print("--json adds triples, the features that a processor must have, and sources.")
    return 0


def _target_row(target: Target) -> dict[str, Any]:
    from shiftedge.export.compiler.backends.cuda.devices import Gpu
    from shiftedge.export.compiler.targets import precisions_of, variants_of

    precisions = precisions_of(target)
    best = next(each for each in target.devices if isinstance(each, type(target.devices[-1])))
    gpu = next((each for each in target.devices if isinstance(each, Gpu)), None)
    variants = [each for precision in precisions for each in variants_of(target, precision)]
    return {
        "name": target.name,
        "description": target.description,
        "architecture": target.architecture,
        "triple": target.triple,
        "instructions": best.name,
        "features": list(best.features),
        "precisions": list(precisions),
        "variants": [
            {"name": each.name, "precision": each.precision, "features": list(each.features)}
            for each in variants
        ],
        "glibc": target.glibc,
        **best.facts(),
        "cores": target.cores,
        "gpu": None if gpu is None else {"arch": gpu.arch, **gpu.facts()},
        "source": target.source,
    }


def _explanations(compiled: Compiled, target: Target) -> list[dict[str, Any]]:
    """For each precision the manifest's rows, and where its code runs here each kernel's time and
    the core's peak; behind them those of its variants for GPUs."""
    from shiftedge.export.compiler.targets import backend_of, runs_here, variants_of

    bundle, result = compiled.bundle, []
    for precision, build in bundle.manifest.builds.items():
        # The rows are those of the last variant of the precision.
        variant, seconds, peak = variants_of(target, precision)[-1], None, None
        if runs_here(variant):
            listed = {each.name: each.library for each in bundle.manifest.variants}
            library = bundle.folder / listed[variant.name]
            seconds, peak = backend_of(variant.device).measure(library, variant)
        if variant.name not in build.gpus:
            result.append(
                {
                    "precision": precision,
                    "variant": variant.name,
                    "kernels": [dict(row) for row in build.kernels],
                    "seconds": seconds,
                    "peak_flops": peak,
                }
            )
        more: dict[str, Any] = {"precision": precision, "seconds": None, "peak_flops": None}
        result += [
            {**more, "variant": name, "kernels": [dict(row) for row in gpu["kernels"]]}
            for name, gpu in build.gpus.items()
        ]
    return result


def _result(compiled: Compiled, output: Path, explained: list[dict[str, Any]]) -> dict[str, Any]:
    manifest = compiled.bundle.manifest
    result: dict[str, Any] = {
        "output": str(output),
        "target": manifest.target,
        "cached": compiled.cached,
        "seconds": round(compiled.seconds, 3),
        "builds": {
            precision: {
                "memory": dict(build.memory),
                "numerics": dict(build.numerics),
                "gpus": {
                    name: {key: dict(gpu[key]) for key in ("memory", "numerics")}
                    for name, gpu in build.gpus.items()
                },
            }
            for precision, build in manifest.builds.items()
        },
    }
    # Of the first precision, for whoever read them before there were several.
    result |= {"memory": dict(manifest.memory), "numerics": dict(manifest.numerics)}
    if explained:
        result["explain"] = explained[0]
        result["explain_others"] = explained[1:]
    return result


def _summary(compiled: Compiled, output: Path) -> str:
    manifest = compiled.bundle.manifest
    source = "from the cache" if compiled.cached else f"in {compiled.seconds:.1f} s"
    lines = []
    for precision, build in manifest.builds.items():
        of = {each.name: each for each in manifest.variants if each.precision == precision}
        made = [
            (each, f"for {manifest.target}", build.kernels, build.numerics)
            for each in of.values()
            if each.name not in build.gpus
        ][:1]
        made += [
            (of[name], f"for its GPU as {name}", gpu["kernels"], gpu["numerics"])
            for name, gpu in build.gpus.items()
        ]
        lines += [
            f"{output}: {precision}, {len(kernels)} kernels {what}, libmodel.so "
            f"{manifest.files[variant.library].bytes:,} bytes, {_proof(numerics)}"
            for variant, what, kernels, numerics in made
        ]
    return "\n".join((*lines[:-1], f"{lines[-1]}, {source}"))


def _proof(numerics: Mapping[str, Any]) -> str:
    """What the verification found, in a few words."""
    if not numerics.get("verified"):
        return "not verified"
    reference, over = numerics["reference"], f"over {numerics['frames']} frames"
    if "states" in numerics:
        far = numerics["onnxruntime"]["relative_error"]
        proof = f"states {numerics['states']} those of {reference} {over}, logits within {far:.1e} "
        proof += "of ONNX Runtime's"
    else:
        worst = max(row["worst"] / max(row["scale"], 1e-6) for row in numerics["comparisons"])
        proof = f"within {worst:.1e} of {reference} {over}"
        if "kernels" in numerics:
            proof += f", each kernel {numerics['kernels']} as its schedule says"
    code = numerics["code"]
    if "instructions" in numerics:
        code += f"; the target's own {numerics['instructions']['states']}"
    return proof if code == "the target's" else f"{proof} ({code})"
