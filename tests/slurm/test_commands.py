"""What Slurm 22.05.8 really wrote, and what the user is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmark.slurm import commands
from benchmark.slurm.commands import Reply, SlurmError, SlurmUnreachableError

MESSAGES = [
    (
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
        SlurmUnreachableError,
        "slurmctld cannot be reached",
    ),
    (
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
        SlurmUnreachableError,
        "slurmctld is busy",
    ),
    (
        "squeue: error: If munged is up, restart with --num-threads=10\n"
        'squeue: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2":'
        " No such file or directory (Did you start munged?)\n"
        "squeue: error: slurm_send_node_msg: auth_g_create: REQUEST_JOB_INFO has authentication"
        " error\n"
        "slurm_load_jobs error: Protocol authentication error\n",
        SlurmError,
        "munged is not running here",
    ),
    (
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received\n",
        SlurmError,
        "its key or clock differs",
    ),
    (
        "squeue: error: ClusterName needs to be specified\n"
        "squeue: fatal: Unable to process configuration file\n",
        SlurmError,
        "configuration cannot be read",
    ),
    (
        "sbatch: error: invalid partition specified: nope\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
        SlurmError,
        "squeue failed: invalid partition specified: nope; Invalid partition name specified",
    ),
    ("allocation failure: Invalid qos specification\n", SlurmError, "Invalid qos specification"),
]


@pytest.mark.parametrize(("text", "kind", "told"), MESSAGES)
def test_messages_of_slurm_become_one_clear_line(
    text: str, kind: type[SlurmError], told: str
) -> None:
    error = commands.error(["squeue"], Reply(1, "", text, 0.1))
    assert type(error) is kind
    assert told in str(error)
    assert "\n" not in str(error)


def test_slurmdbd_is_told_apart_from_slurmctld() -> None:
    text = (
        "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent"
        " connection to host:localhost:20201: Connection refused\n"
        "sacct: error: Sending PersistInit msg: Connection refused\n"
        "sacct: error: Problem talking to the database: Connection refused\n"
    )
    assert "slurmdbd cannot be reached" in str(commands.error(["sacct"], Reply(1, "", text, 0.1)))


def test_every_call_leaves_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "calls.jsonl"
    monkeypatch.setenv("BENCH_CALL_LOG", str(log))
    commands.call(["true"])
    commands.call(["sh", "-c", "echo 'sh: error: no such thing' >&2; exit 3"])
    commands.call(["sleep", "10"], timeout=0.05)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["result"] for line in lines] == ["ok", "exit 3: no such thing", "timed out"]
    assert all(line["seconds"] >= 0 and line["user"] for line in lines)


def test_a_question_is_repeated_while_slurm_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CALL_LOG", str(tmp_path / "calls.jsonl"))
    monkeypatch.setattr(commands.time, "sleep", lambda seconds: None)
    # Busy twice, then answers: the state is a counter file.
    program = (
        f"n=$(cat {tmp_path}/n 2>/dev/null || echo 0); echo $((n+1)) > {tmp_path}/n;"
        ' [ "$n" -ge 2 ] && echo fine && exit 0;'
        ' echo "x: error: Socket timed out on send/recv operation" >&2; exit 1'
    )
    assert commands.ask(["sh", "-c", program], patience=100).strip() == "fine"
    assert (tmp_path / "n").read_text().strip() == "3"
    (tmp_path / "n").unlink()
    with pytest.raises(SlurmUnreachableError, match="busy"):
        commands.ask(["sh", "-c", program], patience=0)


def test_no_slurm_on_path_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match="there is no sbatch on PATH"):
        commands.call(["sbatch", "--version"])


def test_variables_that_would_change_the_answers_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SBATCH_PARTITION", "SQUEUE_FORMAT", "SACCT_FORMAT", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    found = commands.environment()
    assert {n for n in found if n.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_"))} == {
        "SLURM_CONF",
        "SLURM_TIME_FORMAT",
        "SLURM_BITSTR_LEN",
    }
    assert found["PATH"] == os.environ["PATH"]


def test_a_configuration_that_is_not_there_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slurm's own commands look for it for a minute."""
    monkeypatch.setenv("SLURM_CONF", "/no/such/slurm.conf")
    with pytest.raises(SlurmError, match=r"SLURM_CONF names /no/such/slurm\.conf"):
        commands.call(["true"])


def test_a_user_without_a_home_keeps_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("BENCH_CALL_LOG", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does for such a user
    with pytest.raises(OSError, match="no home"):
        commands.state_dir()
    assert commands.call(["true"]).code == 0
    assert not list(tmp_path.iterdir())


def test_all_that_slurm_said_reaches_the_user() -> None:
    said = (
        "sbatch: this site wants a project\nsbatch: error: Batch job submission failed: QOSLimit\n"
    )
    assert commands.refusal(said) == "this site wants a project; QOSLimit"
