"""What a job sees as its files: the policy, before any mount is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobsup.isolation import Bind, Files, Identity, PathRefused, Program, Scratch, Walls
from jobsup.isolation import steps as s
from jobsup.isolation.rootfs import file_blocks

LEAF = b"/sys/fs/cgroup/jobsup/jobs/j1"
PRIVATE = (b"/tmp", b"/var/tmp", b"/run", b"/dev/shm")


def steps(command: bytes = b"true", **files: object) -> list[s.Step]:
    program = Program((command,), (command if b"/" in command else b"/bin/" + command,))
    walls = Walls(program, Identity(0, 0), Files(**files))  # type: ignore[arg-type]
    return [step for block in file_blocks(walls, LEAF) for step in block.steps]


def refused(command: bytes = b"true", **files: object) -> PathRefused:
    with pytest.raises(PathRefused) as caught:
        steps(command, **files)
    return caught.value


def mounts(made: list[s.Step]) -> list[bytes]:
    return [step.target for step in made if isinstance(step, s.Mount | s.BindMount)]


def test_the_hosts_root_is_read_only_nosuid_and_nodev() -> None:
    root = next(step for step in steps() if isinstance(step, s.Root))
    assert root == s.Root(b"/", s.READ_ONLY | s.NO_SUID | s.NO_DEV)


def test_every_job_has_its_own_kernel_and_scratch_directories() -> None:
    made = mounts(steps())
    kernel = [b"/proc", b"/sys", b"/sys/fs/cgroup", b"/dev", b"/dev/pts", b"/dev/mqueue"]
    assert {*kernel, *PRIVATE} <= set(made)
    assert made.index(b"/sys") < made.index(b"/sys/fs/cgroup")
    assert made.index(b"/dev") < made.index(b"/dev/shm")


def test_whatever_is_writable_is_nosuid() -> None:
    for step in steps(grants=(Bind(b"/usr", b"/usr", writable=True),)):
        if isinstance(step, s.Mount | s.BindMount | s.Root):
            assert step.attributes & s.NO_SUID, step


def test_dev_is_read_only_once_it_is_made() -> None:
    made = steps()
    last_in_dev = max(i for i, step in enumerate(made) if isinstance(step, s.Device | s.Symlink))
    assert made.index(s.ReadOnly(b"/dev")) > last_in_dev


def test_the_deeper_of_two_paths_wins() -> None:
    grants = (Bind(b"/usr", b"/srv/a/b"), Bind(b"/etc", b"/srv", writable=True))
    made = mounts(steps(grants=grants))
    assert made.index(b"/srv") < made.index(b"/srv/a/b")


def test_a_grant_above_a_private_directory_comes_before_it() -> None:
    made = mounts(steps(grants=(Bind(b"/var", b"/var", writable=True),)))
    assert made.index(b"/var") < made.index(b"/var/tmp")


def test_a_grant_takes_the_place_of_a_private_directory() -> None:
    made = [x for x in steps(grants=(Scratch(b"/tmp", 4096),)) if isinstance(x, s.Mount)]
    (tmp,) = (step for step in made if step.target == b"/tmp")
    assert b"size=4096" in tmp.options


def test_granting_the_root_makes_it_writable_and_leaves_the_private_directories() -> None:
    made = steps(grants=(Bind(b"/", b"/", writable=True),))
    root = next(step for step in made if isinstance(step, s.Root))
    assert not root.attributes & s.READ_ONLY
    assert set(PRIVATE) <= set(mounts(made))


@pytest.mark.parametrize("target", [b"/proc", b"/proc/sys", b"/sys", b"/sys/fs/cgroup", b"/dev"])
def test_kernel_directories_cannot_be_replaced(target: bytes) -> None:
    assert refused(grants=(Bind(b"/usr", target),)).field == "ro"


def test_a_missing_source_is_refused_by_its_option() -> None:
    error = refused(grants=(Bind(b"/no/such", b"/no/such", writable=True),))
    assert (error.field, error.path) == ("rw", b"/no/such")


class TestOwnState:
    """jobsup's own directories are hidden wherever a grant would make them appear."""

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        directory = tmp_path / "var" / "state"
        directory.mkdir(parents=True)
        return directory

    def masks(self, state: Path, *grants: Bind, root: bytes = b"/") -> list[bytes]:
        made = steps(grants=grants, hidden=(os.fsencode(state),), root=root)
        last_mount = max(i for i, x in enumerate(made) if isinstance(x, s.Mount | s.BindMount))
        found = [(i, x.target) for i, x in enumerate(made) if isinstance(x, s.Mask)]
        return [target for i, target in found if i > last_mount]

    def test_in_the_root(self, state: Path) -> None:
        assert self.masks(state) == [os.fsencode(state)]

    def test_under_another_name(self, state: Path) -> None:
        grant = Bind(os.fsencode(state.parent), b"/tmp/x")
        assert b"/tmp/x/state" in self.masks(state, grant)

    def test_behind_a_link(self, state: Path) -> None:
        link = state.parent.parent / "link"
        link.symlink_to(state.parent)
        assert b"/tmp/x/state" in self.masks(state, Bind(os.fsencode(link), b"/tmp/x"))

    def test_in_a_root_of_the_users(self, state: Path) -> None:
        for name in ("proc", "sys", "dev"):
            (state.parent / name).mkdir()
        assert self.masks(state, root=os.fsencode(state.parent)) == [b"/state"]

    def test_it_cannot_be_granted_itself(self, state: Path) -> None:
        below = state / "jobs"
        below.mkdir()
        for path in (state, below):
            grant = Bind(os.fsencode(path), b"/srv")
            assert "own state" in refused(grants=(grant,), hidden=(os.fsencode(state),)).message


class TestVisible:
    """What lies under a private directory is said before the start, not met as ENOENT inside."""

    def test_a_working_directory(self, tmp_path: Path) -> None:
        error = refused(cwd=os.fsencode(tmp_path))
        assert error.field == "cwd"
        assert f"--ro {tmp_path}" in str(error.hint)

    def test_a_working_directory_behind_a_link(self, tmp_path: Path) -> None:
        link = Path("/var/tmp") / f"link-{os.getpid()}"
        link.symlink_to(tmp_path)
        try:
            assert refused(cwd=os.fsencode(link)).field == "cwd"
        finally:
            link.unlink()

    def test_a_command(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.touch()
        assert refused(command=os.fsencode(program)).field == "command"

    def test_what_is_granted_is_visible(self, tmp_path: Path) -> None:
        here = os.fsencode(tmp_path)
        assert steps(cwd=here, grants=(Bind(here, here),))

    def test_a_directory_of_its_own_may_be_where_it_works(self) -> None:
        assert steps(cwd=b"/tmp")

    def test_below_an_empty_directory_that_was_asked_for_there_is_nothing(self) -> None:
        error = refused(cwd=b"/opt/below", grants=(Scratch(b"/opt", 4096),))
        assert error.field == "cwd"

    @pytest.mark.parametrize("path", [b"/no/such", b"/etc/passwd"])
    def test_a_working_directory_is_a_directory(self, path: bytes) -> None:
        assert refused(cwd=path).field == "cwd"


class TestPlaces:
    """A mount needs something to be mounted on; what cannot be made is said before the start."""

    @pytest.mark.parametrize("grant", [Bind(b"/usr", b"/no/such"), Scratch(b"/no/such", 4096)])
    def test_nothing_is_made_in_read_only_files(self, grant: Bind | Scratch) -> None:
        error = refused(grants=(grant,))
        assert (error.field, error.path) == (
            "tmpfs" if isinstance(grant, Scratch) else "ro",
            b"/no/such",
        )

    def test_a_read_only_grant_is_no_place_either(self) -> None:
        grants = (Bind(b"/etc", b"/srv"), Bind(b"/usr", b"/srv/no-such"))
        assert refused(grants=grants).path == b"/srv/no-such"

    @pytest.mark.parametrize("target", [b"/tmp/new", b"/run/a/b", b"/dev/shm/x", b"/opt/new"])
    def test_what_is_writable_gets_what_is_missing(self, target: bytes) -> None:
        assert steps(grants=(Scratch(b"/opt", 4096), Bind(b"/usr", target)))

    def test_a_root_needs_places_for_what_every_job_has(self, tmp_path: Path) -> None:
        error = refused(root=os.fsencode(tmp_path))
        assert error.field == "root"
        assert "/proc" in error.message
