"""Before the first user: a wrong setting ends with 64, a wrong model with 65 and a report the operator can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from steeltown.contract.golden import Golden
from steeltown.contract.reports import StepReport
from steeltown_server.comparison import first_difference
from steeltown_server.lifecycle import main
from steeltown_server.model import StartFailure, check_size, cpu_limit, memory_limit
from steeltown_server.settings import Settings, UsageError

GOOD = {
    "STEELTOWN_MODEL_NAME": "m",
    "STEELTOWN_MODEL_VERSION": "m-v1",
    "STEELTOWN_MODEL_DIGEST": "sha256:" + "a" * 64,
    "STEELTOWN_MODEL_DIR": "/steeltown/model",
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"STEELTOWN_MODEL_NAME": ""}, "STEELTOWN_MODEL_NAME is not set"),
        ({"STEELTOWN_MODEL_DIGEST": "md5:1"}, "invalid STEELTOWN_MODEL_DIGEST 'md5:1': must be sha256:<64 hex digits>"),
        ({"STEELTOWN_PORT": "http"}, "invalid STEELTOWN_PORT 'http': must be a number"),
        ({"STEELTOWN_DRAIN_SECONDS": "-1"}, "invalid STEELTOWN_DRAIN_SECONDS '-1': must be at least 0"),
        ({"STEELTOWN_DRAIN_SECONDS": "nan"}, "invalid STEELTOWN_DRAIN_SECONDS 'nan': must be at least 0"),
    ],
)
def test_wrong_setting_is_named(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Settings.from_environment(GOOD | wrong)
    assert message in str(error.value)


def test_settings_have_the_documented_defaults() -> None:
    settings = Settings.from_environment(GOOD)
    assert (settings.port, settings.drain_seconds, settings.grace_seconds) == (8080, 3, 20)
    assert (settings.body_limit_bytes, settings.route_file) == (64 << 20, None)


def test_missing_setting_exits_64_with_one_line(launch: Any, scaled: Any) -> None:
    server = launch(scaled, model_name=None)
    assert server.process.wait(timeout=30) == 64
    server.ports.get(timeout=5)
    assert [line["msg"] for line in server.lines] == [
        "STEELTOWN_MODEL_NAME is not set: the operator sets it on the server's container"
    ]


def test_operator_that_is_no_neighbour_is_refused_with_64_and_a_report(environment: Any, scaled: Any) -> None:
    assert main(environment(scaled, contract_version=3)) == 64
    report = StepReport.decode((scaled.path / "termination-log").read_text())
    assert report is not None
    assert report.reason == "InvalidPlan"
    assert report.message.startswith("STEELTOWN_CONTRACT_VERSION is 3, the operator's; this image speaks version 1")


def test_refused_model_ends_the_process_with_65_a_report_and_without_listening(launch: Any, scaled: Any) -> None:
    golden = scaled.golden()
    golden["outputs"][0]["data"][0] = 3
    scaled.write_golden(golden)
    server = launch(scaled)
    assert server.process.wait(timeout=30) == 65
    report = StepReport.decode((scaled.path / "termination-log").read_text())
    assert report is not None
    assert report.reason == "GoldenRowsDiffer"
    assert report.message == "output 'y' at [0, 0]: expected 3.0, got 2.0"
    assert report.digest == scaled.digest
    server.ports.get(timeout=5)
    assert [line["msg"] for line in server.lines] == ["refusing to serve the model"]


@pytest.fixture
def refused(environment: Any) -> Any:
    """Starts in this process, which is enough for what never comes to listen."""

    def check(folder: Any, reason: str, *words: str) -> None:
        assert main(environment(folder)) == 65
        report = StepReport.decode((folder.path / "termination-log").read_text())
        assert report is not None
        assert report.reason == reason
        for word in words:
            assert word in report.message

    return check


def test_start_without_a_termination_log_makes_none(environment: Any, scaled: Any) -> None:
    (scaled.path / "termination-log").unlink()
    (scaled.path / "golden.json").unlink()
    assert main(environment(scaled)) == 65
    assert not (scaled.path / "termination-log").exists()


def test_corrupted_file_is_a_digest_mismatch(refused: Any, scaled: Any) -> None:
    path = scaled.path / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    refused(scaled, "DigestMismatch", "model.onnx has digest sha256:", f"expected {scaled.digest}")


def test_absent_file_is_a_digest_mismatch(refused: Any, scaled: Any) -> None:
    (scaled.path / "model.onnx").unlink()
    refused(scaled, "DigestMismatch", "cannot be read: No such file")


def external(location: str) -> bytes:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], np.zeros(3, np.float32).tobytes(), raw=True)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    ends_of_graph = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", ends_of_graph[:1], ends_of_graph[1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def sequence() -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (b"not a model", ["Protobuf parsing failed"]),
        (external("../outside.bin"), ["escapes model directory"]),
        (external("/etc/hostname"), ["Absolute path not allowed"]),
        (sequence(), ["'y' is a seq(tensor(float))", "zipmap=False"]),
    ],
    ids=["garbage", "external data above the folder", "external data elsewhere", "sequence output"],
)
def test_model_that_does_not_load_says_what_onnxruntime_says(
    refused: Any, make_folder: Any, model: bytes, words: list[str]
) -> None:
    folder = make_folder(model)
    (folder.path.parent / "outside.bin").write_bytes(bytes(12))
    refused(folder, "ModelDoesNotLoad", *words)


def change(key: str, **fields: Any) -> Any:
    def apply(golden: dict[str, Any]) -> None:
        golden[key][0].update(fields)

    return apply


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (change("outputs", data=[2, 4, 6, 8, 10.5, 12]), "output 'y' at [1, 1]: expected 10.5, got 10.0"),
        (change("outputs", data=[2, 4, 6, 8, 10, float("nan")]), "output 'y' at [1, 2]: expected nan, got 12.0"),
        (change("outputs", shape=[3, 2]), "output 'y': expected shape [3, 2], got [2, 3]"),
        (change("outputs", name="z"), "the model has no output 'z'"),
        (change("outputs", datatype="FP64"), "'y': the golden rows have FP64, the model FP32"),
        (change("inputs", name="z"), "the model has no input 'z'"),
        (change("inputs", shape=[6, 1]), "the model fails on its golden rows"),
        (lambda golden: golden.update(outputs=[]), "has no answers"),
    ],
)
def test_golden_rows_that_differ_are_named(refused: Any, scaled: Any, edit: Any, words: str) -> None:
    golden = scaled.golden()
    edit(golden)
    scaled.write_golden(golden)
    refused(scaled, "GoldenRowsDiffer", words)


def test_model_that_answers_nan_where_it_answered_a_number_is_refused(
    refused: Any, make_folder: Any, models: Any
) -> None:
    folder = make_folder(models["logarithm"](), x=np.array([[1, 1], [1, -1]], np.float32))
    golden = folder.golden()
    golden["outputs"][0]["data"][3] = 0.0
    folder.write_golden(golden)
    refused(folder, "GoldenRowsDiffer", "output 'y' at [1, 1]: expected 0.0, got nan")


def test_without_golden_rows_nothing_is_served(refused: Any, scaled: Any) -> None:
    (scaled.path / "golden.json").unlink()
    refused(scaled, "GoldenRowsDiffer", "golden.json cannot be read")


def test_missing_values_and_non_finite_answers_are_golden_too(serve: Any, make_folder: Any, models: Any) -> None:
    folder = make_folder(models["logarithm"](), x=np.array([[0, 1], [-1, np.nan]], np.float32))
    golden = folder.golden()
    golden["inputs"][0]["data"][3] = None
    folder.write_golden(golden)
    assert serve(folder).get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("expected", "got", "differs"),
    [
        (1.0, 1.0019, True),
        (1.0, 1.001, False),
        (0.0, 9e-5, False),
        (0.0, 2e-4, True),
        (np.inf, np.inf, False),
        (np.inf, -np.inf, True),
        (np.inf, 1e30, True),
        (1e30, np.inf, True),
        (np.nan, np.nan, False),
        (1.0, np.nan, True),
        (np.nan, 1.0, True),
    ],
)
def test_tolerance_is_atol_plus_rtol_of_the_expected(expected: float, got: float, differs: bool) -> None:
    golden = Golden(inputs=[], outputs=[])
    assert (first_difference("y", np.array([expected]), np.array([got]), golden) is not None) is differs


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({}, 1),
    ],
)
def test_threads_follow_the_cgroup_limit(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_limit(tmp_path) == cpus


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "123\n"}, 123),
        ({"memory/memory.limit_in_bytes": "456\n"}, 456),
    ],
)
def test_memory_follows_the_cgroup_limit(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit


def test_without_a_memory_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    machine = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert memory_limit(tmp_path) == machine


def test_model_that_alone_fills_the_memory_is_refused_before_the_kernel_does_it(scaled: Any) -> None:
    size = (scaled.path / "model.onnx").stat().st_size
    check_size(scaled.path, size)
    with pytest.raises(StartFailure, match=r"raise spec\.serving\.resources\.limits\.memory"):
        check_size(scaled.path, size - 1)


def endless() -> bytes:
    """Goes round for some centuries before it answers."""
    keep = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["a"], ["b"])],
        "keep",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N", 3]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "yes", "x"], ["y"], body=keep)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [
            helper.make_tensor("rounds", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def test_model_that_does_not_come_to_an_end_is_refused_in_time(launch: Any, make_folder: Any) -> None:
    folder = make_folder(endless())
    row = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    folder.write_golden({"inputs": [row], "outputs": [row | {"name": "y"}], "atol": 0.0, "rtol": 0.0})
    server = launch(folder, load_seconds=1.5)
    assert server.process.wait(timeout=30) == 65
    report = StepReport.decode((folder.path / "termination-log").read_text())
    assert report is not None
    assert report.reason == "ModelDoesNotLoad"
    assert report.message == "the model did not load and pass its golden rows within 1.5 s"
