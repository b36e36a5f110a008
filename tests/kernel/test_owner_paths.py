"""What somebody who is not root names is found as they would find it: nothing behind a directory
that is closed to them is granted, made, or told of."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobsup.isolation import (
    Bind,
    ExitRecord,
    Files,
    Identity,
    IoLimit,
    Limits,
    PathRefused,
    Program,
    Scratch,
    Streams,
    Walls,
    compile_plan,
    open_hierarchy,
)
from jobsup.isolation import spawn as spawning
from jobsup.isolation.rights import looking_as
from tests.kernel.inside import place
from tests.kernel.kept import LIMITS, Keeper, end_of

UID, GROUP = 1000, 2000
OWNER = Identity(UID, UID, (GROUP,))
LEAF = b"/sys/fs/cgroup/jobsup/jobs/leaf"


@pytest.fixture
def host() -> Iterator[Path]:
    """A tree with what is the owner's, what is their group's, everybody's, and what is closed."""
    with place() as top:
        for name, uid, gid, mode in (
            ("mine", UID, UID, 0o700),
            ("groups", 0, GROUP, 0o750),
            ("open", 0, 0, 0o755),
            ("secret", 0, 0, 0o700),
        ):
            for directory in (top / name, top / name / "sub"):
                directory.mkdir()
            (top / name / "file").write_text(name)
            (top / name / "sub" / "program").write_text("#!/bin/sh\necho ran\n")
            (top / name / "sub" / "program").chmod(0o755)
            (top / name / "file").chmod(0o644)
            os.chown(top / name, uid, gid)
            os.chmod(top / name, mode)
        os.chown(top / "mine" / "sub", UID, UID)
        yield top


def walls(script: str, *grants: Bind | Scratch, root: bytes = b"/", cwd: bytes = b"/") -> Walls:
    path = ((b"PATH", b"/usr/bin:/bin"),)
    return Walls(
        program=Program((b"sh", b"-c", script.encode()), (b"/bin/sh",), path),
        identity=OWNER,
        files=Files(root, grants, cwd=cwd, resolve_as=OWNER),
    )


def bind(source: Path, target: Path | str, writable: bool = False) -> Bind:
    return Bind(os.fsencode(source), os.fsencode(target), writable)


def run(keeper: Keeper, asked: Walls) -> tuple[ExitRecord, str]:
    """Its end and its output."""
    record = end_of(keeper.launch(asked))
    said = [(keeper.directory / name).read_text() for name in ("stdout", "stderr")]
    return record, "".join(said)


# ---- what they may have


def test_what_the_owner_may_reach_they_can_have(keeper: Keeper, host: Path) -> None:
    asked = walls(
        "cat /tmp/g/file; echo new > made; cat file",
        bind(host / "groups", "/tmp/g"),
        bind(host / "mine", host / "mine", writable=True),
        cwd=os.fsencode(host / "mine"),
    )
    record, said = run(keeper, asked)
    assert record.failure is None
    assert said == "groupsmine"
    assert (host / "mine" / "made").read_text() == "new\n"
    assert (host / "mine" / "made").stat().st_uid == UID


@pytest.mark.parametrize("target", ["/tmp/a/b", "/run/a/b", "/dev/shm/a"])
def test_a_place_in_the_jobs_own_directories_is_made(
    keeper: Keeper, host: Path, target: str
) -> None:
    record, said = run(keeper, walls(f"cat {target}/file", bind(host / "mine", target)))
    assert (record.failure, said) == (None, "mine")


def test_a_place_in_their_own_directory_is_made_as_theirs(keeper: Keeper, host: Path) -> None:
    mine = host / "mine"
    asked = walls(
        f"cat {mine}/new/file",
        bind(mine, mine, writable=True),
        bind(host / "open", mine / "new"),
    )
    record, said = run(keeper, asked)
    assert (record.failure, said) == (None, "open")
    assert (mine / "new").stat().st_uid == UID


# ---- what they may not have


def source(path: Path) -> Walls:
    return walls("true", bind(path, "/tmp/x"))


def writable(path: Path) -> Walls:
    return walls("true", bind(path, "/tmp/x", writable=True))


def target(path: Path) -> Walls:
    return walls("true", bind(Path("/usr"), path))


def scratch(path: Path) -> Walls:
    return walls("true", Scratch(os.fsencode(path)))


def root(path: Path) -> Walls:
    return walls("true", root=os.fsencode(path))


def cwd(path: Path) -> Walls:
    return walls("true", cwd=os.fsencode(path))


def granted_cwd(path: Path) -> Walls:
    return walls(
        "true", bind(path.parent.parent, "/tmp/x"), cwd=b"/tmp/x/secret/" + os.fsencode(path.name)
    )


WAYS = [source, writable, target, scratch, root, cwd, granted_cwd]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_behind_a_closed_directory_is_refused_there_or_not(
    host: Path, way: Callable[[Path], Walls]
) -> None:
    """In the same words: they do not tell what is there."""
    told = []
    for name in ("sub", "file", "none"):
        with pytest.raises(PathRefused) as error:
            compile_plan(way(host / "secret" / name), LEAF)
        told.append(f"{error.value} {error.value.hint}".replace(f"secret/{name}", "NAME"))
    assert len(set(told)) == 1, told


def test_the_same_of_a_disk_to_limit(keeper: Keeper, host: Path) -> None:
    for name in ("file", "none"):
        limits = Limits(io=(IoLimit(os.fsencode(host / "secret" / name), wbps=1),))
        with pytest.raises(PathRefused, match="Permission denied"):
            keeper.launch(walls("true"), limits)
        os.unlink(keeper.address)


def test_a_link_of_proc_leads_nowhere_else(host: Path) -> None:
    """Neither one of ours nor of another process of root's."""
    held = os.open(host / "secret" / "sub", os.O_RDONLY)
    for link in (f"/proc/self/fd/{held}", f"/proc/{os.getpid()}/fd/{held}", "/proc/1/cwd"):
        with pytest.raises(PathRefused, match="Permission denied"):
            compile_plan(source(Path(link)), LEAF)
    os.close(held)


def test_a_command_behind_it_cannot_be_executed(keeper: Keeper, host: Path) -> None:
    path = os.fsencode(host / "secret" / "sub" / "program")
    asked = walls("")._replace(program=Program((path,), (path,)))
    record, _ = run(keeper, asked)
    assert record.failure is not None
    assert (record.failure.is_exec, record.failure.errno) == (True, errno.EACCES)


def test_nothing_is_made_where_they_could_not_make_it(keeper: Keeper, host: Path) -> None:
    """Even where the directory itself is granted with --rw: it would be root who makes it."""
    public = host / "open"
    grants = bind(public, public, writable=True), bind(host / "mine" / "file", public / "nologin")
    record = end_of(keeper.launch(walls("true", *grants)))
    assert record.failure is not None
    assert record.failure.errno == errno.EACCES
    assert {entry.name for entry in public.iterdir()} == {"file", "sub"}


# ---- what changes between the look and the mount


def _closed(host: Path) -> None:
    (host / "mine").chmod(0)
    os.chown(host / "mine", 0, 0)


def _led_elsewhere(host: Path) -> None:
    (host / "mine" / "sub").rename(host / "mine" / "old")
    (host / "mine" / "sub").symlink_to(host / "open" / "sub")


def _led_to_a_descriptor(host: Path) -> None:
    (host / "mine" / "sub").rename(host / "mine" / "old")
    (host / "mine" / "sub").symlink_to("/proc/self/fd/3")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_closed, errno.EACCES),
        (_led_elsewhere, errno.ELOOP),
        (_led_to_a_descriptor, errno.ELOOP),
    ],
)
def test_the_init_looks_with_their_rights_too(
    keeper: Keeper, host: Path, change: Callable[[Path], None], expected: int
) -> None:
    asked = walls("ls /tmp/x", bind(host / "mine" / "sub", "/tmp/x", writable=True))
    hierarchy = open_hierarchy()
    plan = compile_plan(asked, os.fsencode(hierarchy.leaf(keeper.name)))
    change(host)
    with keeper.spool() as spool:
        streams = Streams(spool=spool)
        job = spawning._start(asked, plan, LIMITS.knobs, hierarchy, keeper.name, streams)
    record = end_of(job)
    assert record.failure is not None
    assert record.failure.step.startswith("bind ")
    assert record.failure.errno == expected


# ---- whose rights they are


def test_a_thread_has_its_own_rights_again(host: Path) -> None:
    before = _rights()
    with looking_as(OWNER):
        within = _rights()
        with pytest.raises(PermissionError):
            (host / "secret" / "file").read_text()
        assert (host / "groups" / "file").read_text() == "groups"
        with pytest.raises(PermissionError):
            os.readlink("/proc/1/cwd")
    assert _rights() == before
    assert (host / "secret" / "file").read_text() == "secret"
    assert within["CapEff"] == ["0000000000000000"]
    assert within["Uid"] == ["0", "0", "0", str(UID)]
    assert within["Gid"] == ["0", "0", "0", str(UID)]
    assert within["Groups"] == [str(GROUP)]
    with suppress(PathRefused):
        compile_plan(source(host / "secret" / "none"), LEAF)
    assert _rights() == before


def _rights() -> dict[str, list[str]]:
    """Of this thread, as the kernel tells them."""
    lines = (
        line.split(":", 1) for line in Path("/proc/thread-self/status").read_text().splitlines()
    )
    wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    return {name: value.split() for name, value in lines if name in wanted}


def test_no_other_thread_is_touched(host: Path) -> None:
    """Several users' jobs and root's are compiled at once."""
    wrong: list[str] = []
    closed = [host / "secret" / "file", host / "mine" / "file"]

    def look(owner: Identity | None, readable: list[Path], hidden: list[Path]) -> None:
        for _ in range(150):
            with looking_as(owner):
                wrong.extend(f"{owner} cannot see {path}" for path in readable if not path.exists())
                for path in hidden:
                    with suppress(PermissionError):
                        os.stat(path)
                        wrong.append(f"{owner} sees {path}")

    looks: list[tuple[Identity | None, list[Path], list[Path]]] = [
        (None, closed, []),
        (OWNER, closed[1:], closed[:1]),
        (Identity(65534, 65534), [], closed),
        (OWNER, closed[1:], closed[:1]),
    ]
    threads = [threading.Thread(target=look, args=each) for each in looks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_they_mount_first_leads_nothing_that_follows_elsewhere(
    keeper: Keeper, host: Path
) -> None:
    """The place of a grant is where it was when it was looked at; a link that means another place
    once other grants are mounted would have root make a file there."""
    mine, victim = host / "mine", host / "open"
    for directory in ("c/d/x", "e"):
        (mine / directory).mkdir(parents=True)
    (mine / "t").symlink_to(mine / "c/d/x")
    (mine / "e/x").symlink_to(victim)
    for path in (mine, *mine.rglob("*")):
        os.chown(path, UID, UID, follow_symlinks=False)
    asked = walls(
        "true",
        bind(victim, victim, writable=True),
        bind(mine / "e", mine / "c/d", writable=True),
        bind(mine / "file", mine / "t/made"),
        Scratch(os.fsencode(mine / "t")),
    )
    with suppress(PathRefused):
        end_of(keeper.launch(asked))
    assert not (victim / "made").exists()
