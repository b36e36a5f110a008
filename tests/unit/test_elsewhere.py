"""Where else a directory is: told from the table of mounts alone."""

from __future__ import annotations

import pytest

from jobsup.isolation.elsewhere import all_places, kernel_directories, moved
from jobsup.isolation.mountinfo import HostMount, host_mounts, parse

ROOT = HostMount(b"8:1", b"/", b"/", b"ext4")
RUN = HostMount(b"0:20", b"/", b"/run", b"tmpfs")
STATE = b"/var/lib/jobsup"


def bind(root: bytes, target: bytes, of: HostMount = ROOT) -> HostMount:
    return HostMount(of.device, root, target, of.type)


def places(path: bytes, *mounts: HostMount) -> set[bytes]:
    return set(all_places(path, (ROOT, RUN, *mounts))) - {path}


@pytest.mark.parametrize(
    ("mount", "found"),
    [
        (bind(b"/", b"/srv/a"), b"/srv/a/var/lib/jobsup"),
        (bind(b"/var", b"/srv/a"), b"/srv/a/lib/jobsup"),
        (bind(STATE, b"/srv/a"), b"/srv/a"),
        (bind(STATE + b"/jobs", b"/srv/a"), b"/srv/a"),
    ],
)
def test_a_bind_mount_is_another_place(mount: HostMount, found: bytes) -> None:
    assert places(STATE, mount) == {found}


@pytest.mark.parametrize(
    "mount", [bind(b"/var/lib/jobsup2", b"/srv/a"), bind(b"/", b"/srv/a", of=RUN)]
)
def test_what_holds_something_else_is_none(mount: HostMount) -> None:
    assert places(STATE, mount) == set()


def test_a_place_that_another_mount_covers_is_none() -> None:
    assert places(STATE, bind(b"/var", b"/srv/a"), bind(b"/etc", b"/srv/a")) == set()
    assert places(STATE, bind(b"/", b"/srv/a"), bind(b"/", b"/srv/a/var", of=RUN)) == set()


def test_a_file_system_of_its_own_is_found_by_its_own_mounts() -> None:
    """And the directory that it covers holds nothing that matters."""
    own = HostMount(b"8:2", b"/", STATE, b"ext4")
    assert places(STATE, own, bind(b"/", b"/srv/a", of=own)) == {b"/srv/a"}
    assert places(STATE, own, bind(b"/", b"/srv/b")) == set()


def test_what_is_mounted_in_it_is_found_too() -> None:
    spool = HostMount(b"8:3", b"/", STATE + b"/spool", b"ext4")
    assert places(STATE, spool, bind(b"/", b"/srv/a", of=spool)) == {spool.target, b"/srv/a"}


def test_kernel_file_systems_are_told_by_their_type_the_outermost() -> None:
    mounts = (
        ROOT,
        RUN,
        HostMount(b"0:3", b"/", b"/proc", b"proc"),
        HostMount(b"0:4", b"/", b"/proc/sys/fs/binfmt_misc", b"binfmt_misc"),
        HostMount(b"0:5", b"/", b"/srv/chroot/sys", b"sysfs"),
    )
    assert kernel_directories(mounts) == (b"/proc", b"/srv/chroot/sys")


def test_a_chroot_without_a_mount_of_its_own_knows_no_other_places() -> None:
    assert all_places(b"/run/jobsup", ()) == {b"/run/jobsup"}


def test_the_mounts_of_this_process_are_read() -> None:
    assert b"/proc" in [mount.target for mount in host_mounts() if mount.type == b"proc"]


@pytest.mark.parametrize(
    ("line", "mount"),
    [
        (
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
            HostMount(
                b"98:0", b"/mnt1", b"/mnt2", b"ext3", b"/dev/root", (b"rw", b"errors=continue")
            ),
        ),
        (  # nothing optional; what the kernel escapes
            b"1 2 0:5 /a\\040b /c\\134d rw - overlay a\\011b rw,upperdir=/x\\040y",
            HostMount(b"0:5", b"/a b", b"/c\\d", b"overlay", b"a\tb", (b"rw", b"upperdir=/x y")),
        ),
    ],
)
def test_a_line_is_read_with_its_escapes_undone(line: bytes, mount: HostMount) -> None:
    assert parse(line) == mount


def test_moved() -> None:
    assert moved(b"/a/b/c", b"/a", b"/") == b"/b/c"
    assert moved(b"/a", b"/a", b"/x/y") == b"/x/y"
