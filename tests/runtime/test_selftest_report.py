"""What people are told of a self-test: which kernels took another share than was predicted."""

from __future__ import annotations

from typing import Any

from shiftedge.runtime.selftest_report import report_text


def row(**changes: Any) -> dict[str, Any]:
    """A variant whose kernels take twice what was predicted."""
    kernels = [
        {"name": f"k{i}", "microseconds": 2.0 * us, "predicted_microseconds": us, "bound": "issue"}
        for i, us in enumerate((10.0, 20.0, 30.0, 40.0))
    ]
    found = {
        "name": "cuda-sm_53", "passed": True, "frames": 16, "relative_error": 1e-6,
        "step_ms": {"p50": 1.0, "p90": 1.1, "p99": 1.2}, "open_ms": 1500.0, "kernels": kernels,
        "kernels_microseconds": 200.0, "predicted_microseconds": 100.0,
    }  # fmt: skip
    return found | changes


def text(*rows: dict[str, Any]) -> str:
    return report_text({"variants": rows})


def test_a_slower_clock_is_no_kernels_fault() -> None:
    said = text(row())
    assert said.splitlines()[0] == (
        "cuda-sm_53: passed, 16 frames within 1.0e-06 of what was recorded; step 1.000 ms (p50), "
        "1.200 ms (p99); opened in 1.5 s"
    )
    assert "predicted 0.100 ms: 2.00 of it" in said
    assert "each kernel's share of the step within 1.5 times" in said


def test_a_kernel_that_is_slow_is_told() -> None:
    found = row()
    found["kernels"][1]["microseconds"] = 400.0
    found["kernels_microseconds"] = 560.0
    said = text(found)
    assert "4 of 4 kernels take another share" in said
    assert said.splitlines()[4].split()[:3] == ["k1", "400.0", "20.0"]


def test_what_failed_and_what_has_no_prediction() -> None:
    failed = {"name": "a", "passed": False, "failed": "There is no NVIDIA driver."}
    plain = row(passed=False, failed="logits are 0.5 of the largest off; accepted 0.0001")
    del plain["predicted_microseconds"]
    lines = text(failed, plain).splitlines()
    assert lines[0] == "a: failed: There is no NVIDIA driver."
    assert lines[1].startswith("cuda-sm_53: failed: logits are 0.5 of the largest off; accepted")
    assert len(lines) == 2
