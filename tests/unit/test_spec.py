"""A spec is checked once, at the door: what gets in is sound, what does not is refused by name."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobsup
from jobsup.isolation import Bind, IoLimit, Rlimit, Scratch
from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.spec import Spec


def refused(field: str, argv: object = ("true",), **options: object) -> BadValue:
    """The refusal that these options meet; it must name the field."""
    with pytest.raises(BadValue) as caught:
        Spec.make(argv, **options)  # type: ignore[arg-type]
    assert caught.value.field == field
    return caught.value


# ---- the command


def test_arguments_travel_as_the_bytes_they_are() -> None:
    spec = Spec.make(["prog", b"\xff\xfe", os.fsdecode(b"\xfd"), Path("dir/file"), ""])
    assert spec.argv == (b"prog", b"\xff\xfe", b"\xfd", b"dir/file", b"")


@pytest.mark.parametrize(
    "argv",
    [[], (), "ls -l", b"ls", None, 5, [""], ["a", "b\0c"], [1], [None], ["\ud800x"], {"a": 1}],
)
def test_what_is_no_command_is_refused(argv: object) -> None:
    refused("argv", argv)


def test_an_argument_longer_than_the_kernel_takes_is_refused_before_launch() -> None:
    longest = "x" * (128 * 1024 - 1)
    assert Spec.make(["echo", longest]).argv[1] == longest.encode()
    assert "Argument list too long" in str(refused("argv", ["echo", longest + "x"]))


# ---- defaults


def test_a_spec_that_asks_for_nothing_has_the_stated_defaults() -> None:
    spec = Spec.make(["true"])
    assert (spec.pids, spec.net, spec.hostname, spec.oom_group) == (4096, "none", "job", True)
    assert (spec.mem, spec.swap, spec.time, spec.user) == (None, None, None, None)
    assert spec.grace == 5_000_000
    assert (spec.root, spec.cwd) == (b"/", os.getcwdb())


def test_none_stands_for_the_default_of_every_option() -> None:
    options = {field.name: None for field in dataclasses.fields(Spec) if field.name != "argv"}
    assert Spec.make(["true"], **options) == Spec.make(["true"])


def test_a_spec_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Spec.make(["true"]).mem = 5  # type: ignore[misc]


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    assert "mem_high" in str(refused("memhigh", memhigh=1).hint)
    assert refused("memm", memm=1).hint == "did you mean mem?"
    assert refused("zzz", zzz=1).hint is None


@pytest.mark.parametrize(
    ("line", "options", "remedy"),
    [
        ("echo hi", {}, '["echo", "hi"]'),
        ("echo hi", {"shell": True}, '["sh", "-c", "echo hi"]'),
        ("echo hi | wc", {}, '["sh", "-c", "echo hi | wc"]'),
        ("x" * 1000, {}, '["sh", "-c", "…"] runs a shell'),
    ],
)
def test_a_command_line_is_refused_with_the_list_that_it_means(
    line: str, options: dict[str, object], remedy: str
) -> None:
    assert refused("argv", line, **options).hint == remedy


def test_a_shell_is_asked_for_by_name() -> None:
    assert '["sh", "-c"' in str(refused("shell", ["ls"], shell=True).hint)


def test_every_public_name_can_be_completed_and_is_there() -> None:
    assert set(jobsup.__all__) <= set(dir(jobsup))
    assert jobsup.Options.__optional_keys__ <= {field.name for field in dataclasses.fields(Spec)}
    assert all(getattr(jobsup, name) is not None for name in jobsup.__all__)


def test_a_traceback_shows_the_hint() -> None:
    error = refused("mem", mem="1Q")
    assert error.__notes__ == [f"hint: {error.hint}"]


def test_what_is_shown_of_bytes_is_their_text() -> None:
    assert str(refused("argv", [""])) == "argv: '' is no command"
    assert str(refused("env", env="=x")) == "env: '' is not a variable's name"
    assert str(refused("rw", rw=b"")) == "rw: '' is not a path"


GARBAGE = ["", "\0", "256X", -1, float("nan"), 2**64, True, b"\xff\0", object(), [None], [True], 1j]
# Some options take some of it: a path may have any name, a list may be empty.
TAKEN: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(["rw", "ro", "root", "cwd", "name", "hostname", "env"], ("256X",)),
    **dict.fromkeys(["oom_group", "inherit_env", "merge"], (True,)),
    "oom_score_adj": (-1,),
}
OPTIONS = [field.name for field in dataclasses.fields(Spec) if field.name != "argv"]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: type(value).__name__)
def test_every_option_refuses_garbage_by_its_own_name(option: str, value: object) -> None:
    if any(value is taken for taken in TAKEN.get(option, ())):
        return
    refused(option, **{option: value})


@given(st.sampled_from(OPTIONS), st.one_of(st.text(), st.binary(), st.lists(st.text(), max_size=3)))
def test_no_option_raises_anything_but_bad_value(option: str, value: object) -> None:
    try:
        Spec.make(["true"], **{option: value})
    except BadValue as error:
        assert error.field == option


# ---- memory


def test_levels_of_memory_must_make_sense_together() -> None:
    Spec.make(["true"], mem_low="1M", mem_high="2M", mem="3M")
    Spec.make(["true"], swap="1G")
    refused("mem_high", mem_high="2G", mem="1G")
    refused("mem_low", mem_low="2G", mem="1G")
    refused("mem", mem=1)
    refused("mem_low", mem_low="2G", mem_high="1G")


# ---- cgroup


def test_other_knobs_pass_through_from_texts_and_mappings() -> None:
    wanted = (("memory.zswap.max", "0"), ("hugetlb.2MB.max", "4M"))
    assert Spec.make(["x"], cgroup=["memory.zswap.max=0", "hugetlb.2MB.max=4M"]).cgroup == wanted
    assert (
        Spec.make(["x"], cgroup={"memory.zswap.max": 0, "hugetlb.2MB.max": "4M"}).cgroup == wanted
    )


@pytest.mark.parametrize(
    "knob",
    ["cgroup.procs=1", "cgroup.kill=1", "cgroup.freeze=1", "cgroup.type=threaded",
     "cgroup.subtree_control=+cpu", "../memory.max=1", "a/b.c=1", "memory=1", "=1", ".max=1",
     "memory.max", "memory.max=", "memory.max=1\n2", "memory..max=1", "memory.max\0=1"],
)  # fmt: skip
def test_knobs_that_lead_elsewhere_are_refused(knob: str) -> None:
    refused("cgroup", cgroup=[knob])


def test_one_file_is_not_set_by_two_options() -> None:
    refused("cgroup", mem="1G", cgroup="memory.max=5")
    refused("cgroup", cgroup=["io.latency=a", "io.latency=b"])
    assert Spec.make(["x"], cgroup="pids.max=5").cgroup == (("pids.max", "5"),)


def test_io_limits() -> None:
    limits = Spec.make(["x"], io_max=["/srv:wbps=10M,riops=100", "8:0:rbps=max"]).io_max
    assert limits == (IoLimit(b"/srv", wbps=10 << 20, riops=100), IoLimit(b"8:0", rbps="max"))
    (relative,) = Spec.make(["x"], io_max="data:wbps=1").io_max
    assert relative.target == os.getcwdb() + b"/data"


@pytest.mark.parametrize(
    "value", ["/srv", "/srv:", "/srv:wbps", "/srv:wbps=", "/srv:speed=1", "/srv:wbps=1,wbps=2",
              ":wbps=1", "/srv:wbps=0", "/srv:riops=1M", "/srv:wbps=1,"]
)  # fmt: skip
def test_io_limits_that_are_none(value: str) -> None:
    refused("io_max", io_max=value)


# ---- files


def test_grants_are_absolute_from_the_callers_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = os.fsencode(tmp_path)
    spec = Spec.make(["x"], rw=[".", "/a//b/../c/"], ro=["src:/dst", ("with:colon", "/x")])
    assert spec.rw == (Bind(here, here, True), Bind(b"/a/c", b"/a/c", True))
    assert spec.ro == (Bind(here + b"/src", b"/dst"), Bind(here + b"/with:colon", b"/x"))


def test_a_colon_that_belongs_to_a_path_is_escaped() -> None:
    assert Spec.make(["x"], ro=rb"/a\:b").ro == (Bind(b"/a:b", b"/a:b"),)
    assert Spec.make(["x"], ro=r"/a\:b:/c").ro == (Bind(b"/a:b", b"/c"),)


def test_paths_may_be_any_bytes() -> None:
    assert Spec.make(["x"], rw=b"/\xff").rw == (Bind(b"/\xff", b"/\xff", True),)


def test_a_link_is_left_for_the_init_to_follow(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    (grant,) = Spec.make(["x"], ro=tmp_path / "link").ro
    assert grant.source == os.fsencode(tmp_path / "link")


@pytest.mark.parametrize("field", ["rw", "ro", "tmpfs", "root", "cwd"])
@pytest.mark.parametrize(
    "path",
    ["", "/a\0b", "/" + "x" * 5000, "/proc/self/fd/3", "/proc/1/root", "/proc/thread-self/cwd/x",
     "/proc/7/task/7/fd", "/dev/fd/3", "/x/../proc/self/fd", "//proc/self/fd/0"],
)  # fmt: skip
def test_paths_that_lead_out_of_the_job_are_refused(field: str, path: str) -> None:
    refused(field, **{field: path})


@pytest.mark.parametrize(
    ("field", "value"),
    [("ro", "/a:b"), ("ro", "/a:"), ("rw", "/a:/"), ("tmpfs", "a"), ("tmpfs", "/"),
     ("tmpfs", "/a:"), ("tmpfs", "/a:big"), ("tmpfs", "/a:0")],
)  # fmt: skip
def test_grants_that_are_none(field: str, value: str) -> None:
    refused(field, **{field: value})


def test_a_place_is_given_once() -> None:
    assert str(refused("ro", rw="/a", ro="/a")) == "ro: '/a' is already given by rw"
    assert str(refused("rw", ro="/a", rw="/a")) == "rw: '/a' is already given by ro"
    refused("tmpfs", rw="/a", tmpfs="/a/")
    Spec.make(["x"], rw=["/a", "/a"])


def test_the_root_can_be_opened_but_not_exchanged_by_a_grant() -> None:
    assert Spec.make(["x"], rw="/").rw == (Bind(b"/", b"/", True),)
    assert Spec.make(["x"], root="/tree", rw="/tree:/").rw == (Bind(b"/tree", b"/", True),)
    assert refused("rw", root="/tree", rw="/").hint == "root=DIR makes it so"


def test_tmpfs_sizes() -> None:
    spec = Spec.make(["x"], tmpfs=["/a", "/b:10M"])
    assert spec.tmpfs == (Scratch(b"/a"), Scratch(b"/b", 10 << 20))


def test_another_root_starts_at_its_own_top() -> None:
    assert Spec.make(["x"], root="/tree").cwd == b"/"
    assert Spec.make(["x"], root="/tree", cwd="/srv").cwd == b"/srv"


def test_a_directory_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert str(refused("cwd")) == "cwd: '.' cannot be placed: the current directory is gone"
    Spec.make(["x"], cwd="/")


# ---- identity


@pytest.mark.parametrize("field", ["user", "group", "groups"])
@pytest.mark.parametrize(
    "value", ["-1", -1, "4294967295", 2**32 - 1, "4294967296", 2**32, "1000x", "0x3e8", "+5", "1 0",
              "", "a:b", "a b", "a/b", "a\n", "a\0", 1.0, True, "99999999999"]
)  # fmt: skip
def test_ids_are_strict(field: str, value: object) -> None:
    refused(field, **{field: value})


@pytest.mark.parametrize("value", ["nobody:nogroup", "1234:5"])
def test_a_group_beside_the_user_is_another_option(value: str) -> None:
    assert "group=GROUP" in str(refused("user", user=value).hint)


def test_ids_are_numbers_or_names() -> None:
    spec = Spec.make(["x"], user="0", group="staff", groups=["adm,5", 6])
    assert (spec.user, spec.group, spec.groups) == (0, "staff", ("adm", 5, 6))
    assert Spec.make(["x"], user=2**32 - 2).user == 2**32 - 2
    assert Spec.make(["x"], groups="none").groups == ()
    assert Spec.make(["x"], groups=[]).groups == ()


def test_capabilities_are_known_names() -> None:
    assert Spec.make(["x"], cap=["none", "CAP_NET_RAW,-kill"]).cap == ("none", "net_raw", "-kill")
    assert "net_raw" in str(refused("cap", cap="net_rw").hint)
    refused("cap", cap="-all")


@pytest.mark.parametrize(
    "name", ["..", "/", "a/b", "a b", "x" * 65, "\u202eabc", "-a", "é", "a\n", "a\0", 5, b"a"]
)
def test_names_are_plain(name: object) -> None:
    refused("name", name=name)
    refused("hostname", hostname=name)


# ---- the process


def test_environment_from_texts_and_mappings() -> None:
    spec = Spec.make(["x"], env=["A=1", "B", "A=2=3", "C="])
    assert spec.env == ((b"A", b"2=3"), (b"B", None), (b"C", b""))
    assert Spec.make(["x"], env={"A": "1", "B": None}).env == ((b"A", b"1"), (b"B", None))


@pytest.mark.parametrize(
    "env", ["=x", "", {"": "1"}, {"A=": "1"}, {"A": 1}, {1: "1"}, ["A=" + "x" * 131072]]
)
def test_variables_that_are_none(env: object) -> None:
    refused("env", env=env)


def test_rlimits_from_texts_and_mappings() -> None:
    wanted = (Rlimit(7, 10, 20), Rlimit(4, 0, 0))
    assert Spec.make(["x"], rlimit=["nofile=10:20", "core=0"]).rlimit == wanted
    assert Spec.make(["x"], rlimit={"nofile": (10, 20), "core": 0}).rlimit == wanted
    refused("rlimit", rlimit=["core=0", "core=1"])
    refused("rlimit", rlimit={"core": True})


def test_choices_and_scores() -> None:
    assert Spec.make(["x"], oom_score_adj="-500").oom_score_adj == -500
    assert (
        refused("oom_score_adj", oom_score_adj="5000").hint == "a whole number from -1000 to 1000"
    )
    refused("oom_score_adj", oom_score_adj=1001)
    refused("oom_score_adj", oom_score_adj="--5")
    assert refused("net", net="bridge").hint == "one of none, host"
    refused("output_full", output_full="DROP")
    refused("inherit_env", inherit_env=1)
