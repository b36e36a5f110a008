"""Two users on one socket, and root. What is another's is as what is not there, in every answer,
byte for byte; what only root may ask is refused; jobs run as their owner, with nothing of root's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import Opener
from tests.daemon.served import Answer, Served, acting_as, received, request

ANNA, BERT = 47101, 47102
ABSENT = "ffffffffffffffffff1"

READ = ("", "/status", "/out", "/out?follow=1", "/out?stream=stdout&frames=1", "/wait?timeout=0")
VERBS: dict[str, Any] = {
    "stop": {}, "kill": None, "signal": {"signal": "TERM"}, "pause": None, "resume": None,
    "set": {"mem": "64M"},
}  # fmt: skip


@pytest.fixture
def job(clean: Served) -> str:
    """Of Anna's, with a name, and running."""
    return clean.shell("echo secret; sleep 1000", uid=ANNA, name="annas")


def every_verb(daemon: Served, ref: str, uid: int) -> Iterator[tuple[str, Answer]]:
    for path in READ:
        yield f"GET {path}", daemon.ask("GET", f"/jobs/{ref}{path}", uid=uid)
        yield f"HEAD {path}", daemon.ask("HEAD", f"/jobs/{ref}{path}", uid=uid)
    for verb, body in VERBS.items():
        yield verb, daemon.ask("PUT", f"/jobs/{ref}/{verb}", body, uid=uid)
        yield f"bad {verb}", daemon.ask("PUT", f"/jobs/{ref}/{verb}", {"grace": "?"}, uid=uid)
    for force in ("", "?force=1"):
        yield f"DELETE {force}", daemon.ask("DELETE", f"/jobs/{ref}{force}", uid=uid)
    yield "events", daemon.ask("GET", f"/events?job={ref}", uid=uid)


def test_anothers_job_answers_as_an_absent_one(clean: Served, job: str) -> None:
    lookups = {"id": (job, ABSENT), "prefix": (job[:-3], ABSENT[:-3]), "name": ("annas", "noones")}
    for what, (there, absent) in lookups.items():
        assert len(there) == len(absent) or what == "name"
        pairs = zip(every_verb(clean, there, BERT), every_verb(clean, absent, BERT), strict=True)
        for (verb, told), (_, expected) in pairs:
            assert told.status == 404, (what, verb, told)
            assert told.body == expected.body.replace(absent.encode(), there.encode()), verb
            assert _head(told) == _head(expected), verb
    status = clean.api.status(job)
    assert (status["state"], status["limits"].get("memory.max")) == ("running", None)


def _head(answer: Answer) -> bytes:
    """Names have other lengths."""
    return b"\r\n".join(
        line for line in answer.head.split(b"\r\n") if not line.startswith(b"Content-Length")
    )


def test_an_ended_one_too(clean: Served) -> None:
    job = clean.shell("echo secret", uid=ANNA)
    clean.api.wait(job)
    told = [answer.body for _, answer in every_verb(clean, job, BERT)]
    expected = [answer.body for _, answer in every_verb(clean, ABSENT, BERT)]
    assert told == [body.replace(ABSENT.encode(), job.encode()) for body in expected]
    assert clean.output(job) == b"secret\n"


def test_a_list_has_ones_own(clean: Served, job: str) -> None:
    # A name is nobody's alone.
    own = clean.shell("sleep 1000", uid=BERT, name="annas", after="1h")

    def listed(uid: int, query: str = "") -> list[str]:
        said = clean.ask("GET", f"/jobs{query}", uid=uid).said
        return [line["id"] for line in said["jobs"]]

    assert (listed(ANNA), listed(BERT), listed(0)) == ([job], [own], [own, job])
    assert listed(BERT, "?name=annas") == listed(BERT, "?state=queued") == [own]
    # A cursor is a number of all jobs: with another's it still shows one's own alone.
    assert set(listed(BERT, "?after=1000000")) <= {own}
    assert clean.ask("GET", "/jobs/annas", uid=BERT).said["id"] == own
    assert clean.ask("GET", "/jobs/annas", uid=0).code == "ambiguous"


def test_events_are_of_ones_own(clean: Served, job: str) -> None:
    with clean.connect(BERT) as berts, clean.connect(0) as roots:
        for connection in (berts, roots):
            connection.sendall(request("GET", "/events"))
            assert b"200 OK" in connection.recv(4096)
        clean.api.stop(job)
        clean.api.wait(job)
        own = clean.submit(["true"], uid=BERT)
        clean.api.wait(own)
        assert _until(berts, own) == {own}
        assert _until(roots, own) == {job, own}


def _until(connection: Any, last: str) -> set[str]:  # noqa: ANN401 - a socket
    """The ids of all events until that one has ended."""
    raw, seen = b"", set()
    for data in received(connection):
        raw += data
        *lines, raw = raw.split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                event = json.loads(line)
                seen.add(event["id"])
                if (event["id"], event["state"]) == (last, "completed"):
                    return seen
    raise AssertionError("the events are over")


def test_prune_takes_ones_own(clean: Served) -> None:
    annas, berts = (clean.submit(["true"], uid=uid) for uid in (ANNA, BERT))
    for one in (annas, berts):
        clean.api.wait(one)
    assert clean.ask("POST", "/jobs/prune", {}, uid=BERT).said == {"removed": [berts]}
    assert [line["id"] for line in clean.api.all()] == [annas]


def test_the_daemon_is_roots(clean: Served) -> None:
    for method, path in (
        ("GET", "/metrics"),
        ("PUT", "/control/start"),
        ("PUT", "/control/stop"),
        ("PUT", "/control/terminate"),
    ):
        answer = clean.ask(method, path, uid=ANNA)
        assert (answer.status, answer.code) == (403, "forbidden"), path
    assert clean.ask("GET", "/control", uid=ANNA).said == {"state": "ready"}


# ---- who a job is


def test_a_job_is_its_owner_without_privileges(clean: Served) -> None:
    script = "id -u; id -g; id -G; grep -E '^(Cap|NoNewPrivs)' /proc/self/status"
    answer = clean.ask(
        "POST", "/jobs/run", {"argv": ["sh", "-c", script], "cwd": "/"}, uid=ANNA, groups=[47200]
    )
    job = answer.said["id"]
    clean.api.wait(job)
    uid, gid, groups, *rest = clean.output(job).decode().splitlines()
    assert (uid, gid, set(groups.split())) == (f"{ANNA}", f"{ANNA}", {f"{ANNA}", "47200"})
    told = dict(line.split(":\t") for line in rest)
    assert {told[name].strip("0") for name in told if name.startswith("Cap")} == {""}
    assert told["NoNewPrivs"] == "1"


REFUSED: dict[str, Any] = {
    "user": "root", "group": 0, "groups": [0], "cap": ["net_admin"], "mem_low": "1M",
    "cpu_weight": 101, "io_weight": 101, "cgroup": ["memory.high=1M"], "oom_score_adj": -1,
    "rlimit": ["nofile=1000000:2000000"],
}  # fmt: skip


@pytest.mark.parametrize("option", REFUSED)
def test_what_only_root_may_ask(clean: Served, option: str) -> None:
    body = {"argv": ["true"], "cwd": "/", option: REFUSED[option]}
    answer = clean.ask("POST", "/jobs/run", body, uid=ANNA)
    assert answer.status in (400, 403), answer
    assert answer.said["error"].get("field") == option, answer
    assert clean.api.all() == []


@pytest.mark.parametrize("option", ["mem_low", "cpu_weight", "io_weight"])
def test_nor_may_it_be_set_later(clean: Served, job: str, option: str) -> None:
    answer = clean.ask("PUT", f"/jobs/{job}/set", {option: REFUSED[option]}, uid=ANNA)
    assert answer.status in (400, 403), answer
    assert answer.said["error"].get("field") == option, answer


def test_another_users_directory_tells_nothing(clean: Served, tmp_path: Path) -> None:
    """A path below it is refused in the same words, whether there is anything or not."""
    place = Path(f"/run/jobsup-annas-{os.getpid()}")
    place.mkdir(mode=0o700)
    os.chown(place, ANNA, ANNA)
    (place / "there").mkdir(mode=0o755)
    try:
        for option, wrap in {"ro": list, "rw": list, "cwd": str, "root": str}.items():
            told = []
            for name in ("there", "nots!"):
                path = f"{place}/{name}"
                body = {"argv": ["true"], "cwd": "/", option: [path] if wrap is list else path}
                answer = clean.ask("POST", "/jobs/run", body, uid=BERT)
                if answer.status == 201:  # said by the verdict
                    ended = clean.api.wait(answer.said["id"])
                    assert ended["verdict"]["cause"] == "setup", (option, ended["verdict"])
                    told.append(ended["verdict"]["message"].replace(name, ""))
                else:
                    told.append(answer.body.decode().replace(name, ""))
            assert told[0] == told[1], option
        own = {"argv": ["ls", f"{place}"], "cwd": "/", "ro": [str(place)]}
        mine = clean.ask("POST", "/jobs/run", own, uid=ANNA).said["id"]
        assert clean.api.wait(mine)["state"] == "completed"
        assert clean.output(mine) == b"there\n"
    finally:
        (place / "there").rmdir()
        place.rmdir()


# ---- what lies on the disk, and the sockets


def test_state_is_unreadable_to_others(clean: Served, job: str) -> None:
    readable, listed = [], []
    for path in [clean.state, *clean.state.rglob("*")]:
        mode = path.lstat().st_mode
        if stat.S_ISSOCK(mode) and path == clean.socket:
            assert stat.S_IMODE(mode) == 0o666
        elif mode & 0o077 and path not in (clean.state, clean.state / "run"):
            readable.append((path, oct(mode)))
    assert readable == []
    with acting_as(ANNA):
        for directory in (clean.state, clean.state / "lib", clean.state / "run", "/proc/self/fd"):
            if os.access(directory, os.R_OK, effective_ids=True) and directory != "/proc/self/fd":
                listed.append(directory)
        for below in (f"lib/jobs/{job}/1/stdout", "lib/jobs.db", f"run/control/{job}"):
            with pytest.raises(PermissionError):
                os.stat(clean.state / below)
    assert listed == []


@pytest.mark.parametrize("uid", [0, ANNA])
def test_no_job_reaches_a_socket_of_the_daemon(clean: Served, job: str, uid: int) -> None:
    targets = [clean.socket, clean.state / "run" / "control" / job]
    # In Perl, which every Debian has where every user may execute it.
    code = (
        "use Socket; for my $path (@ARGV) { for my $kind (SOCK_STREAM, SOCK_SEQPACKET) {"
        " socket(my $socket, PF_UNIX, $kind, 0) or die;"
        ' print connect($socket, pack_sockaddr_un($path)) ? "reached $path" : "$!", "\\n"; } }'
    )
    paths = [str(path) for path in targets]
    # Also by the way of other names for the same directory.
    paths += [f"/var{path}" for path in paths] + [f"/proc/self/root{path}" for path in paths]
    argv = ["perl", "-e", code, *paths]
    for options in ({}, {"rw": ["/"]}, {"ro": ["/run"]}, {"rw": ["/run", str(clean.state)]}):
        answer = clean.ask("POST", "/jobs/run", {"argv": argv, "cwd": "/", **options}, uid=uid)
        if answer.status != 201:
            assert answer.code == "path-refused", answer
            continue
        ended = clean.api.wait(answer.said["id"])
        if ended["state"] != "completed":
            assert ended["verdict"]["cause"] == "setup", ended["verdict"]
            continue
        lines = clean.output(answer.said["id"]).decode().splitlines()
        assert len(lines) == 2 * len(paths)
        assert not [line for line in lines if line.startswith("reached")], (options, lines)


# ---- quotas


def test_quotas_are_of_each_user_and_not_of_root(open_daemon: Opener) -> None:
    daemon = open_daemon("--owner-jobs", "3", "--owner-bytes", "100K", "--owner-followers", "2")
    jobs = [daemon.submit(["sleep", "1000"], uid=ANNA, output_max=0) for _ in range(3)]
    sleep = {"argv": ["sleep", "1000"], "cwd": "/"}
    assert daemon.ask("POST", "/jobs/run", sleep, uid=ANNA).code == "quota"
    assert daemon.ask("POST", "/jobs/run", sleep, uid=BERT).status == 201
    for _ in range(4):
        daemon.submit(["true"])

    following = [daemon.connect(ANNA) for _ in range(2)]
    for connection in following:
        connection.sendall(request("GET", f"/jobs/{jobs[0]}/out?follow=1"))
        assert b"200 OK" in connection.recv(4096)
    refused = daemon.ask("GET", f"/jobs/{jobs[0]}/out?follow=1", uid=ANNA)
    assert (refused.status, refused.code) == (429, "quota")
    assert daemon.ask("GET", "/events", uid=ANNA).code == "quota"
    for connection in following:
        connection.close()

    daemon.api.stop(jobs[0])
    daemon.api.wait(jobs[0])
    large = daemon.shell("head -c 200000 /dev/zero", uid=ANNA, output_max="100K")
    daemon.api.wait(large)
    assert daemon.ask("POST", "/jobs/run", sleep, uid=ANNA).code == "quota"
    assert daemon.ask("DELETE", f"/jobs/{large}", uid=ANNA).status == 200
    assert daemon.ask("POST", "/jobs/run", sleep, uid=ANNA).status == 201


def test_a_crowd_at_once_has_no_more_than_its_quota(open_daemon: Opener) -> None:
    """Requests of one moment are counted one after the other."""
    daemon = open_daemon("--owner-jobs", "3")
    connections = [daemon.connect(ANNA) for _ in range(12)]
    for connection in connections:
        body = {"argv": ["sleep", "1000"], "cwd": "/"}
        connection.sendall(request("POST", "/jobs/run", body, close=True))
    said = [b"".join(received(connection)) for connection in connections]
    for connection in connections:
        connection.close()
    assert sorted(answer.split()[1] for answer in said) == [b"201"] * 3 + [b"429"] * 9
    assert len(daemon.api.all()) == 3
