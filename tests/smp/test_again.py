"""Tests of tests/kernel that lean most on the order of things, again where it is less sure: those
that do not time what a slow processor delays."""

from __future__ import annotations

from tests.kernel import test_ends, test_leftovers, test_output

unchanged = test_leftovers.unchanged  # their fixture

test_kill = test_ends.test_a_kill_by_request_is_told_apart_from_one_from_elsewhere
test_early_stop = test_ends.test_a_request_before_the_command_is_executed_is_not_lost
test_stop_and_kill = test_ends.test_a_stop_that_is_not_obeyed_kills_after_the_grace
test_first_reason = test_ends.test_the_first_reason_holds
test_cap_kills_at = test_ends.test_output_exactly_at_the_cap_does_not_kill

test_fifty_at_once = test_leftovers.test_after_50_jobs_at_once_of_one_process
test_orphans = test_leftovers.test_orphans_are_reaped_while_the_job_runs

test_held_pipe = test_output.test_a_child_that_holds_the_pipe_does_not_hold_up_the_end
test_closed_output = test_output.test_a_job_may_close_its_output_and_go_on
test_children = test_output.test_what_children_wrote_before_the_end_is_all_there
