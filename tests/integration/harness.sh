# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For tests of real programs on simulated cameras: bash, TAP.  A test begins with
#
#     #!/bin/bash
#     # SPDX-License-Identifier: MIT
#     . "$(dirname "$0")/harness.sh"
#
# and is run again inside camsim, which ends with it and takes everything along
# that was started inside.  Verbs:
#
#     sim COMMAND...                  what a hand, a fault or an eye does: see camsim --help
#     camera NAME BOARD [KEY=VALUE]   a camera as fast as the machine
#     start_daemon [OPTION...]        a private bus, camrescued, and waits until it is on the bus; stop_daemon, kill_daemon, restart_daemon
#     configure LINE...               what stands in camrescue.conf; before start_daemon
#     cam ARGUMENT...                 the client
#     wait_status CAMERA CONDITION [SECONDS]   state, or state=S mode=M firmware=V diagnosis=D update=E; event driven
#     status CAMERA KEY               one value of the client's JSON: .state, .update.result
#     port NAME                       where a camera of camsim is, or was last: "1-1"
#     ok / not_ok NAME                one case; check NAME COMMAND... is either
#     is NAME HAVE WANTED             compares two strings
#     skip_all REASON                 for what a machine lacks
#     done_testing                    the last line of a test
#
# $T is the test's own directory, removed at the end unless KEEP=1; when a case fails
# its logs are printed.  There are no sleeps here: whatever is waited for is an event with a deadline.

set -u
set -o pipefail
LC_ALL=C.UTF-8
export LC_ALL

# Where things are: beside this file, unless make says it (out-of-tree builds).
source_directory=${CAMRESCUE_SRCDIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
build_directory=${CAMRESCUE_BUILDDIR:-$source_directory/build}
camsim=$build_directory/tests/sim/camsim
camrescued=${CAMRESCUED:-$build_directory/camrescued}
camrescue=${CAMRESCUE:-$build_directory/camrescue}
export CAMRESCUE_SRCDIR=$source_directory CAMRESCUE_BUILDDIR=$build_directory

skip_all() {
	echo "1..0 # SKIP $*"
	exit "${SKIP_STATUS:-0}"
}

# --- outside: into camsim ---

if [ -z "${CAMSIM_INSIDE:-}" ]; then
	[ -x "$camsim" ] || { echo "Bail out! $camsim is not built"; exit 99; }
	harness_directory=$(mktemp -d "${TMPDIR:-/tmp}/camrescue-test-XXXXXX") || exit 99
	harness_socket=$harness_directory/camsim.socket
	harness_ended() {
		[ "${KEEP:-}" = 1 ] && echo "# kept: $harness_directory" || rm -rf "$harness_directory"
	}
	trap harness_ended EXIT
	trap 'exit 143' TERM HUP INT
	CAMSIM_INSIDE=1 T=$harness_directory "$camsim" --socket "$harness_socket" --trace "$harness_directory/camsim.log" \
		-- bash "$0" "$@" 2> "$harness_directory/stderr" &
	wait $!
	harness_status=$?
	if [ $harness_status -eq 77 ]; then
		# Of Automake's TAP driver a skip is a plan; whoever runs the test by hand sees 77.
		[ -t 1 ] && SKIP_STATUS=77
		skip_all "$(sed -n 's/^camsim: //p' "$harness_directory/stderr" | head -n 1)"
	fi
	sed 's/^/# /' "$harness_directory/stderr"
	exit $harness_status
fi
unset CAMSIM_INSIDE
export T

# --- TAP ---

tap_count=0
tap_failed=0

ok() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $*"
}

not_ok() {
	tap_count=$((tap_count + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_count - $*"
	# The first failure explains; what follows is often its consequence.
	[ $tap_failed -gt 2 ] || print_logs
}

check() {
	local name=$1
	shift
	if "$@" > "$T/check.log" 2>&1; then
		ok "$name"
	else
		sed 's/^/# /' "$T/check.log"
		not_ok "$name"
	fi
}

is() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		printf '%s\n' "have: $2" "want: $3" | sed 's/^/# /'
		not_ok "$1"
	fi
}

done_testing() {
	# Sanitizers and valgrind tell at the end what was never given back.
	if [ -n "$daemon_pid" ]; then
		check "camrescued ends well" stop_daemon
	fi
	stop_all
	echo "1..$tap_count"
	[ $tap_failed -eq 0 ] || exit 1
	exit 0
}

print_logs() {
	local log

	for log in "$T/camrescued.log" "$T/bus.log" "$T/camsim.log"; do
		[ -s "$log" ] || continue
		echo "# --- ${log##*/}"
		tail -n "${LOG_LINES:-40}" "$log" | sed 's/^/# /'
	done
}

# --- the simulation ---

sim() {
	"$camsim" ctl "$@"
}

camera() {
	sim camera "$@" speed=max
}

port() {
	sim cameras | sed -n "s/^$1 .* port=\([^ ]*\) .*/\1/p"
}

# --- the bus ---

bus_pid=
bus_address=

start_bus() {
	[ -z "$bus_pid" ] || return 0
	cat > "$T/bus.conf" <<-END
		<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
		 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig>
		  <type>session</type>
		  <listen>unix:path=$T/bus.socket</listen>
		  <auth>EXTERNAL</auth>
		  <policy context="default">
		    <allow send_destination="*" eavesdrop="true"/>
		    <allow eavesdrop="true"/>
		    <allow own="*"/>
		    <allow user="*"/>
		    <allow user="*"/>
		  </policy>
		</busconfig>
	END
	bus_address=unix:path=$T/bus.socket
	# It writes its address as soon as it listens.
	mkfifo "$T/bus.ready"
	dbus-daemon --config-file="$T/bus.conf" --nofork --nopidfile --print-address=3 3> "$T/bus.ready" 2> "$T/bus.log" &
	bus_pid=$!
	if ! read -r -t 20 _ < "$T/bus.ready"; then
		echo "Bail out! dbus-daemon did not start"
		print_logs
		exit 99
	fi
	rm "$T/bus.ready"
	export CAMRESCUE_BUS_ADDRESS=$bus_address DBUS_SYSTEM_BUS_ADDRESS=$bus_address
}

# --- the daemon ---

daemon_pid=

configure() {
	printf '%s\n' "$@" > "$T/camrescue.conf"
}

start_daemon() {
	start_bus
	[ -e "$T/camrescue.conf" ] || : > "$T/camrescue.conf"
	mkdir -p "$T/state"
	"${DAEMON_WRAPPER[@]}" "$camrescued" --state-directory "$T/state" --configuration "$T/camrescue.conf" \
		--boards-directory "$source_directory/boards" --bus-address "$bus_address" --log stderr --debug "$@" \
		>> "$T/camrescued.log" 2>&1 &
	daemon_pid=$!
	wait_for_daemon
}
DAEMON_WRAPPER=()

# Until the name is owned.  The bus tells it: the monitor's match is in place before the owner is asked for.
wait_for_daemon() {
	local line

	exec 7< <(exec dbus-monitor --address "$bus_address" \
		"type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.camrescue1'" 2> /dev/null)
	local monitor=$!
	local status=1
	# The first thing that a monitor hears is its own name: from then on it hears everything.
	while read -r -t 30 -u 7 line; do
		if daemon_is_on_bus; then
			status=0
			break
		fi
		kill -0 "$daemon_pid" 2> /dev/null || break
	done
	kill "$monitor" 2> /dev/null
	exec 7<&-
	if [ $status -ne 0 ]; then
		echo "# camrescued did not come up"
		print_logs
	fi
	return $status
}

daemon_is_on_bus() {
	dbus-send --bus="$bus_address" --dest=org.freedesktop.DBus --print-reply=literal --reply-timeout=10000 / \
		org.freedesktop.DBus.NameHasOwner string:org.camrescue1 2> /dev/null | grep -q 'boolean true'
}

# end_process PID SIGNAL: its exit status.
end_process() {
	kill "-$2" "$1" 2> /dev/null
	wait "$1" 2> /dev/null
}

stop_daemon() {
	local status=0

	[ -n "$daemon_pid" ] || return 0
	end_process "$daemon_pid" TERM || status=$?
	daemon_pid=
	return $status
}

kill_daemon() {
	[ -n "$daemon_pid" ] || return 0
	end_process "$daemon_pid" KILL
	daemon_pid=
}

restart_daemon() {
	stop_daemon || not_ok "camrescued ends well"
	start_daemon "$@"
}

cam() {
	# Otherwise a signal is followed by SIGCONT, which would undo the stop by which LeakSanitizer begins, for ever.
	timeout --foreground "${CAM_TIMEOUT:-120}" "$camrescue" --bus-address "$bus_address" "$@"
}

wait_status() {
	local camera=$1 condition=$2 seconds=${3:-30}

	cam watch --json --until "$condition" --timeout "$seconds" "$camera" > "$T/watch.log" 2>&1 && return 0
	echo "# $camera is not $condition after $seconds s; it was:"
	tail -n 5 "$T/watch.log" | sed 's/^/# /'
	return 1
}

# The value at a path of keys, .update.result, in the client's JSON of one camera; "null" is nothing.
status() {
	cam status --json "$1" | json_value "$2"
}

# A little of jq, which is not everywhere: the client prints one key a line, indented by two blanks a level.
json_value() {
	awk -v path="${1#.}" '
		BEGIN { n = split(path, keys, "."); depth = 1 }
		{
			line = $0
			indent = match(line, /[^ ]/) - 1
			sub(/^ +/, "", line)
			if (line !~ /^"/) next
			key = line
			sub(/^"/, "", key)
			sub(/".*/, "", key)
			if (depth > 1 && indent <= level[depth - 1]) depth = 1
			if (key != keys[depth] || (depth > 1 && indent != level[depth - 1] + 2)) next
			level[depth] = indent
			if (depth < n) { depth++; next }
			sub(/^"[^"]*": */, "", line)
			sub(/,$/, "", line)
			if (line ~ /^".*"$/) line = substr(line, 2, length(line) - 2)
			print line == "null" ? "" : line
			exit
		}'
}

stop_all() {
	stop_daemon
	if [ -n "$bus_pid" ]; then
		end_process "$bus_pid" TERM
		bus_pid=
	fi
}
trap stop_all EXIT
