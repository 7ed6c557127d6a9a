"""One run's place on disk while it trains: its lease, its records, its checkpoints, its end."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.base.files import read_json, replacing, write_json
from benchmark.base.inside import folder_of, unlink
from benchmark.run.directory import RunDir
from benchmark.run.failure import note_failure
from benchmark.run.identity import SCHEMA
from benchmark.run.lease import STALE_SECONDS, Lease
from benchmark.train import state
from benchmark.train.about import about_student
from benchmark.train.ledger import Ledger
from benchmark.train.provenance import provenance
from benchmark.train.result import of_outputs, summarise
from benchmark.train.test_time import of_prediction
from benchmark.train.trainee import Trainee

METHOD_PREFIX = "method."
AVERAGE_PREFIX = "average."


class Session:
    """Holds a run's lease and writes everything that the run leaves behind."""

    def __init__(self, rundir: RunDir, lease: Lease) -> None:
        self.rundir = rundir
        self.lease = lease
        self.classes: Sequence[str] = ()  # the data's, once they are known
        self._clear_drafts()
        self.starts = self._note_start()
        self._records, self._probes = Ledger(rundir.records), Ledger(rundir.probes)

    def _clear_drafts(self) -> None:
        # A process that is killed while it writes leaves a file as large as a checkpoint. What
        # belongs to taking a lease may be another process's, unless it is old.
        now = self.rundir.lease.stat().st_mtime
        with folder_of(self.rundir.next_checkpoint) as (folder, fresh):
            for name in os.listdir(folder):
                if name != fresh and not name.startswith("."):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    ours = name.endswith(".tmp") and not name.startswith(".lease")
                    changed = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
                    if ours or name == fresh or now - changed > STALE_SECONDS:
                        os.unlink(name, dir_fd=folder)

    def _note_start(self) -> list[dict[str, Any]]:
        path = self.rundir.provenance
        starts = read_json(path, SCHEMA)["starts"] if path.exists() else []
        starts.append(provenance())
        write_json(path, {"schema": SCHEMA, "starts": starts})
        return list(starts)

    def resume(self, trainee: Trainee) -> bool:
        """Load the newest checkpoint into the trainee; tell whether there was one.

        The records, and those of probes, are cut back to where the checkpoint was taken.
        """
        saved = state.load(self.rundir)
        sizes = 0, 0
        if saved is not None:
            try:
                trainee.load_state(saved)
                sizes = int(saved["records_bytes"]), int(saved.get("probes_bytes", 0))
            # A file that bears our key and other content fails in any of torch's ways.
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                raise state.CheckpointError(
                    f"the checkpoint in {self.rundir.path} does not fit its run"
                    f" ({type(error).__name__}: {reason}); move the directory away to start anew"
                ) from error
        self._records.cut(sizes[0])
        self._probes.cut(sizes[1])
        return saved is not None

    def record(self, record: dict[str, Any], probes: Sequence[str] = ()) -> None:
        """Note an epoch, and its probes' lines; they reach the disk with :meth:`flush`."""
        self._records.note(json.dumps(record, allow_nan=False))
        for line in probes:
            self._probes.note(line)

    def flush(self) -> None:
        """Append what is noted to its files. On an OSError it stays noted."""
        self._records.flush()
        self._probes.flush()

    def checkpoint(self, trainee: Trainee, keep: bool = False) -> None:
        """Write a checkpoint; with ``keep`` also a copy that stays."""
        self.lease.check()
        content = self._content(trainee)
        if keep:  # first: once the newest is there, this place is not come by again
            state.save_copy(self.rundir.drop_checkpoint(trainee.epoch - 1), content)
        state.save(self.rundir, content)

    def _content(self, trainee: Trainee) -> dict[str, Any]:
        sizes = {"records_bytes": self._records.settle()}
        if probed := self._probes.settle():
            sizes["probes_bytes"] = probed
        return trainee.state() | sizes

    def finish(self, trainee: Trainee, extra: dict[str, Any]) -> dict[str, Any]:
        """Write the trained network, then the result, last. An existing result is left alone."""
        self.lease.check()
        self.flush()
        extras = {
            METHOD_PREFIX + name: value for name, value in trainee.methods.state_dict().items()
        }
        if trainee.average is not None:
            model, _ = trainee.average.modules
            extras |= {AVERAGE_PREFIX + name: v for name, v in model.state_dict().items()}
        if extras:
            _write_tensors(self.rundir.extras, extras)
        about = about_student(trainee.run, self.classes)
        _write_tensors(self.rundir.weights, trainee.student.model.state_dict(), about)
        result = summarise(
            trainee.run,
            trainee.history,
            trainee.diverged_at,
            self.rundir.read_records(),
            self.starts,
            extra
            | {"prediction": of_prediction(trainee)}
            | of_outputs(trainee.objective.reported, trainee.others, trainee.averaged),
            trainee.needs_teacher,
        )
        self.write_result(result)
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Write result.json once, and clear away why an earlier attempt failed."""
        if not self.rundir.result.exists():
            write_json(self.rundir.result, result)
        unlink(self.rundir.failure)
        self.lease.release()

    def fail(self, error: BaseException) -> None:
        """Say why this attempt ended, with the number of attempts that ended alike."""
        note_failure(self.rundir, error)
        self.lease.release()


def _write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    content = save(_separate(tensors), metadata)
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they are exported; what two names share is written under both."""
    found, seen = {}, set()
    for name, value in tensors.items():
        exported = value.detach().cpu().contiguous()
        if value.numel() and value.data_ptr() in seen:
            exported = exported.clone()
        seen.add(value.data_ptr())
        found[name] = exported
    return found
