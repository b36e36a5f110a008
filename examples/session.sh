#!/bin/sh
# A daemon, and what one does with it; in a guest where the host cannot run jobs:
#
#     sudo vagrant/guest -- sh examples/session.sh
#
# The guest has a /tmp of its own: from a clone below /tmp it also needs --ro "$PWD" before the --.
set -eu
repo=$(dirname "$(dirname "$(readlink -f "$0")")")
PATH=$repo/.venv/bin:$PATH
cd / # a job's working directory is its caller's, and below /tmp a job does not see it

jobsup serve &
daemon=$!
jobsup ping --wait 30s >/dev/null # until it is there

id=$(jobsup start --mem 64M --name counting -- sh -c 'for n in 1 2 3; do echo $n; sleep 0.1; done')
jobsup ls --all
jobsup out --follow --timestamps "$id"
jobsup wait "$id"
jobsup explain counting

long=$(jobsup start --time 1h -- sleep 1000)
jobsup set "$long" --mem 32M
jobsup pause "$long"
jobsup status "$long"
jobsup resume "$long"
jobsup stop "$long"
jobsup stop "$long" # it has ended: how is said, and that is no error
jobsup stop nobody || echo "status $?" # what is not there is one
jobsup ls --all

python3 "$repo/examples/first_jobs.py"

jobsup prune >/dev/null
kill "$daemon" # jobs would go on, and the next daemon would take them up
wait "$daemon"
