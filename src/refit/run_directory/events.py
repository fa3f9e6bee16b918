"""TensorBoard event files, written and read without TensorFlow.

Keras's TensorBoard callback could write the same tags, but it needs TensorFlow, and it cannot leave
out an epoch that an interrupted training has already logged. tensorboard's own record writer does
both; its reader computes checksums in Python, which was half of the time that tables took.
"""

import contextlib
import itertools
import os
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
from google.protobuf.message import DecodeError
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2, summary_v2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

_PREFIX = "events.out.tfevents."
_file_number = itertools.count()


class EventWriter:
    """Appends events to a new file in `folder`; every event is on disk when a call returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        unique = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        path = folder / f"{_PREFIX}{unique}.{next(_file_number)}"
        self._file = path.open("wb")
        self._records = RecordWriter(self._file)
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write one value per tag, as TensorFlow 2 does: tensors marked for the scalars plugin."""
        summary = summary_pb2.Summary()
        for tag, value in values.items():
            metadata = scalar_metadata.create_summary_metadata(display_name="", description="")
            tensor = tensor_util.make_tensor_proto(float(value), dtype="float32")
            summary.value.add(tag=tag, tensor=tensor, metadata=metadata)
        self.summary(summary, step)

    def summary(self, summary: summary_pb2.Summary, step: int = 0) -> None:
        """Write a finished summary, such as the hyper-parameters of a trial."""
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        # On disk before a result says that the training is done.
        os.fsync(self._file.fileno())
        self._file.close()

    def _write(self, event: event_pb2.Event) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()


def event_files(folder: Path) -> list[Path]:
    """The event files of one folder, in the order in which they were begun."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """All scalars below one folder's event files: tag -> step -> value.

    Files are read in the order of their names, that is of their creation. A step written twice
    counts once, with its last value; a record cut off by a crash ends its file, and one that
    cannot be read is as good as missing.
    """
    scalars: dict[str, dict[int, float]] = defaultdict(dict)
    for path in event_files(folder):
        for event in _events(path):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name in ("", scalar_metadata.PLUGIN_NAME):
                    scalars[value.tag][event.step] = _number(value.tensor)
    return dict(scalars)


def _events(path: Path) -> Iterator[event_pb2.Event]:
    """The events of a file, up to the first that is damaged or was cut off by a crash.

    A record of TensorFlow's is a length of 8 bytes with its checksum, and as many with theirs.
    """
    with contextlib.suppress(OSError, DecodeError):
        content, start = path.read_bytes(), 0
        while start < len(content):
            end = start + 16 + int.from_bytes(content[start : start + 8], "little")
            head, record = content[start : start + 12], content[start + 12 : end]
            if end > len(content) or not (_is_whole(head) and _is_whole(record)):
                return
            yield event_pb2.Event.FromString(record[:-4])
            start = end


def _is_whole(part: bytes) -> bool:
    """Whether bytes are those that the checksum at their end, masked as TensorFlow does, is of."""
    crc = google_crc32c.value(part[:-4])
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return masked == int.from_bytes(part[-4:], "little")


def _number(tensor: tensor_pb2.TensorProto) -> float:
    # As `scalars` writes it; whatever else wrote it takes ten times longer.
    if len(tensor.float_val) == 1:
        return tensor.float_val[0]
    return float(tensor_util.make_ndarray(tensor))


def hparams_experiment(hparams: dict[str, list[Any]], metrics: dict[str, str]) -> Any:
    """The summary that tells TensorBoard's HParams tab its columns.

    `hparams` maps each hyper-parameter to the values it takes; `metrics` maps tags, written as
    `group/tag`, to the names shown.
    """
    columns = [_column(name, values) for name, values in hparams.items()]
    shown = []
    for path, display_name in metrics.items():
        group, _, tag = path.rpartition("/")
        shown.append(summary_v2.Metric(tag, group=group, display_name=display_name))
    summary = summary_v2.hparams_config_pb(columns, shown, time_created_secs=time.time())
    # TensorBoard puts last what does not differ, and does not look by itself.
    content = summary.value[0].metadata.plugin_data.content
    experiment = hparams_metadata.parse_experiment_plugin_data(content)
    for info in experiment.hparam_infos:
        info.differs = len({*hparams[info.name]}) > 1
    plugin_data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    metadata = hparams_metadata.create_summary_metadata(plugin_data)
    summary.value[0].metadata.CopyFrom(metadata)
    return summary


def hparams_session(values: dict[str, Any], group: str) -> Any:
    """The summary that opens a training in the HParams tab, which shows the mean of a group."""
    return summary_v2.hparams_pb(values, trial_id=group, start_time_secs=time.time())


def hparams_session_end() -> Any:
    """The summary that closes a trial in the HParams tab."""
    ended = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
    metadata = hparams_metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=ended)
    )
    summary = summary_pb2.Summary()
    summary.value.add(
        tag=hparams_metadata.SESSION_END_INFO_TAG,
        metadata=metadata,
        tensor=hparams_metadata.NULL_TENSOR,
    )
    return summary


def _column(name: str, values: list[Any]) -> summary_v2.HParam:
    """A column of the HParams tab: numbers, truth values, or, for anything mixed, text."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float}:
        kind: type = float if float in kinds else int
    else:
        kind = kinds.pop() if len(kinds) == 1 else str
    domain = sorted({kind(value) for value in values})
    return summary_v2.HParam(name, summary_v2.Discrete(domain, dtype=kind))
