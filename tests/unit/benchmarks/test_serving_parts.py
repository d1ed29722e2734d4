"""The parts of benchmarks/serving that read and write other programs' formats, and the table."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_bench import cells, generators, profiling, report, wire
from steeltown_server.rpc import inference_pb2

pb: Any = inference_pb2  # its names exist at run time only

H2LOAD = """
finished in 2.00s, 1234.50 req/s, 217.03KB/s
requests: 2469 total, 2469 started, 2469 done, {good} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 434.05KB (444467) total, 48.22KB (49380) headers (space savings 90%), 253KB ({data}) data
"""


def test_a_grpc_request_is_read_back_by_the_generated_code() -> None:
    array = np.arange(40, dtype=np.float32).reshape(2, 20)
    message = pb.ModelInferRequest.FromString(wire.infer_request("logreg", "X", array))
    assert message.model_name == "logreg"
    assert (message.inputs[0].name, message.inputs[0].datatype, list(message.inputs[0].shape)) == ("X", "FP32", [2, 20])
    assert list(message.raw_input_contents) == [array.tobytes()]


def test_a_grpc_response_is_read_whether_its_contents_are_raw_or_typed() -> None:
    probabilities, label = np.array([0.25, 0.75], np.float32), np.array([-1], np.int64)
    raw: Any = pb.ModelInferResponse(model_name="logreg")
    typed: Any = pb.ModelInferResponse(model_name="logreg")
    for response in (raw, typed):
        response.outputs.add(name="label", datatype="INT64", shape=[1])
        response.outputs.add(name="probabilities", datatype="FP32", shape=[1, 2])
    raw.raw_output_contents.extend([label.tobytes(), probabilities.tobytes()])
    typed.outputs[0].contents.int64_contents.extend(label.tolist())
    typed.outputs[1].contents.fp32_contents.extend(probabilities.tolist())
    for response in (raw, typed):
        outputs = wire.infer_response(response.SerializeToString())
        assert outputs["label"].tolist() == [-1]
        assert outputs["probabilities"].tolist() == [0.25, 0.75]


def test_a_message_that_ends_early_is_refused() -> None:
    with pytest.raises(ValueError, match="ends within"):
        wire.infer_response(b"\x2a")


def test_a_frame_has_the_length_of_its_message() -> None:
    assert wire.framed(b"abc") == b"\0" + struct.pack(">I", 3) + b"abc"


@pytest.mark.parametrize("name", ["mlp-json", "mlp-binary"])
def test_json_and_binary_requests_carry_the_same_numbers(name: str) -> None:
    request = cells.payload(cells.CELLS[name], seed=3)
    if request.header_bytes:
        values = np.frombuffer(request.body[request.header_bytes :], np.float32)
    else:
        values = np.asarray(json.loads(request.body)["inputs"][0]["data"], np.float32)
    assert np.array_equal(values, cells.features("mlp", 1, seed=3).ravel())


@pytest.mark.parametrize(
    ("good", "failed", "data", "bad"),
    [
        (2469, 0, 2469 * 105, 0),
        (2400, 69, 2400 * 105, 69),
        (2469, 0, 2000 * 105, 469),  # an error of gRPC: status 200 and no message
        (2469, 0, 2469 * 105 + 500, 0),  # answers of the last moment, not counted as requests
    ],
)
def test_grpc_answers_without_a_message_are_counted_as_bad(good: int, failed: int, data: int, bad: int) -> None:
    output = H2LOAD.format(good=good, failed=failed, data=data)
    done = generators.parse_h2load(output, 0.5, answer_bytes=100)
    assert (done.requests, done.seconds, done.bad) == (good, 2.0, bad)


def test_self_time_belongs_to_the_innermost_function() -> None:
    table = profiling.self_times(["main;decode 3", "main;run 6", "main 1"], top=2).splitlines()
    assert [line.split() for line in table[1:]] == [["60.0%", "60.0%", "run"], ["30.0%", "30.0%", "decode"]]


def test_threads_that_wait_for_work_are_no_part_of_a_profile() -> None:
    table = profiling.self_times([f"main;{profiling.IDLE} 90", "main;run 10"]).splitlines()
    assert [line.split() for line in table[1:]] == [["100.0%", "100.0%", "run"]]


def test_the_newest_result_is_the_last_of_the_last_day(tmp_path: Path) -> None:
    for name in ("2026-01-02-2", "2026-01-02-10", "2026-01-01-30"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name}))
    assert report.newest(tmp_path) == {"name": "2026-01-02-10"}


def test_a_folder_without_results_has_no_newest(tmp_path: Path) -> None:
    assert report.newest(tmp_path) is None


def test_the_report_of_a_run_with_failures_shows_them_in_the_table() -> None:
    good = {"requests_per_second": 12_345.0, "cpu_us": 61.0, "generator_busy": 0.99}
    start = {"cold_seconds": 0.8, "rss_mib": 90.0, "pss_mib": 85.0, "processes": 1}
    held = {"saturated": False, "dropped": 0, "p50_us": 190, "p99_us": 540, "max_us": 2100, "lag_p99_us": 20.0}
    late = {**held, "saturated": True, "answered": 2000, "window_seconds": 2.0}
    text = report.document(
        {
            "at": "2026-01-01T00:00:00+00:00",
            "machine": {"architecture": "x86_64", "cores": 2},
            "versions": {"commit": "abc", "shown": {"python": "3.11"}},
            "options": {"seconds": 2.0, "rates": [200, 1000]},
            "rounds": [
                {
                    "round": 0,
                    "limits": {"logreg-1": 6.1},
                    "load_before": [1.0, 1.0, 1.0],
                    "load_after": [1.5, 1.0, 1.0],
                    "servers": {
                        "steeltown": {"start": start, "closed": {"logreg-c8": good}, "open": {"200": held}},
                        "kserve": {"closed": {"logreg-c8": {"invalid": "status 500"}}, "open": {"200": late}},
                    },
                }
            ],
        }
    )
    assert "12,345 \\*" in text
    assert "10.0% / -" in text
    assert "0.19 / 0.54 / 2.10" in text
    assert "saturated (1,000/s)" in text
    assert "round 1, kserve, logreg-c8: status 500" in text
    assert "| CPU per request, logreg JSON c=8" in text
