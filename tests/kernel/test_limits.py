"""Every limit that was asked for is in force: in the leaf as the host sees it, and as reported."""

from __future__ import annotations

from tests.kernel.jobs import Jobs, Leaf


def test_a_limit_is_in_the_leaf(jobs: Jobs) -> None:
    running = jobs.start(["sh", "-c", "echo ready; exec sleep 60"], mem="64M")
    assert running.line() == "ready"
    assert Leaf.only().read("memory.max") == str(64 << 20)
