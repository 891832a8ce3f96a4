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
#     replugged CAMERA...             they run again, and programs have heard of it: what is waited for then was not before
#     camera NAME BOARD [KEY=VALUE]   a camera as fast as the machine
#     start_daemon [OPTION...]        a private bus, camrescued, and waits until it is on the bus; stop_daemon, daemon_ends, kill_daemon, restart_daemon
#     bus_policy=XML                  what else the bus's configuration says; before start_daemon
#     configure LINE...               what stands in camrescue.conf; before start_daemon
#     KERNEL_LOG=1                    the daemon reads what the simulated kernel says
#     CAMSIM_WRAPPER=(COMMAND...)     before this file is read: by what all of it is run
#     cam ARGUMENT...                 the client
#     wait_status CAMERA CONDITION [SECONDS]   state, or state=S mode=M firmware=V diagnosis=D update=E; event driven
#     until_told MATCH COMMAND...     until it succeeds; asked anew at whatever the bus tells that matches
#     status CAMERA KEY               one value of the client's JSON: .state, .update.result
#     at PORT                         what a port that a test names is called by the kernel: the same, if that is played
#     port NAME                       where a camera of camsim is, or was last: "1-1"
#     ok / not_ok NAME                one case; check NAME COMMAND... is either
#     is NAME HAVE WANTED             compares two strings
#     exits STATUS NAME COMMAND...    it ends with that; says NAME PATTERN: and that is in what it said
#     skip_all REASON                 for what a machine lacks
#     on_vm                           whether the kernel is a real one (below)
#     quick_machine                   the kernel and udev are quicker than real ones, if they are played
#     done_testing                    the last line of a test
#
# With CAMRESCUE_MACHINE=vm, as root in a virtual machine, the same tests run on its kernel and its systemd, with the package
# that is installed there: see harness-vm.sh.
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
camsim_options=()
[ -n "${CAMSIM_WRAPPER:-}" ] || CAMSIM_WRAPPER=()
camrescued=${CAMRESCUED:-$build_directory/camrescued}
camrescue=${CAMRESCUE:-$build_directory/camrescue}
export CAMRESCUE_SRCDIR=$source_directory CAMRESCUE_BUILDDIR=$build_directory

skip_all() {
	echo "1..0 # SKIP $*"
	exit "${SKIP_STATUS:-0}"
}

on_vm() {
	[ "${CAMRESCUE_MACHINE:-}" = vm ]
}
if on_vm; then
	camrescue=/usr/bin/camrescue
	camsim_options=(--vhci)
fi

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
	CAMSIM_INSIDE=1 T=$harness_directory "${CAMSIM_WRAPPER[@]}" "$camsim" "${camsim_options[@]}" --socket "$harness_socket" --trace "$harness_directory/camsim.log" \
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

# The output is in the file "out".
exits() {
	local wanted=$1 name=$2 have
	shift 2
	"$@" > out 2>&1
	have=$?
	[ $have -eq "$wanted" ] || sed 's/^/# /' out
	is "$name" $have "$wanted"
}

says() {
	check "$1" grep -qE -- "$2" out
}

# until_printed FILE GREP-ARGUMENT...: a program has written such a line; told by inotify, within 20 s.
until_printed() {
	# (It may have been started a moment ago, and not have its file yet.)
	: >> "$1"
	grep -q -m 1 "${@:2}" < <(exec timeout 20 tail -n +1 --follow "$1" 2> /dev/null)
}

# all_closed: whoever has got what ReadFlash read has closed it, and the daemon has seen that; its log says so, within 20 s.
all_closed() {
	local n
	n=$(grep -c "of what was read, .* are handed out" "$T/camrescued.log")
	[ "$n" -eq 0 ] || [ "$(grep -c -m "$n" "of what was read, .* are open nowhere any more" \
		< <(exec timeout 20 tail -n +1 --follow "$T/camrescued.log" 2> /dev/null))" = "$n" ]
}

# A word that is misspelt would check nothing.
command_not_found_handle() {
	echo "no such command: $*" >&2
	kill -TERM $$
	return 127
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

	for log in "$T/camrescued.log" "$T/bus.log" "$T/camsim.log" "$T/kernel.log"; do
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

replugged() {
	local camera

	{
		for camera; do echo "replug $camera"; done
		for camera; do echo "wait $camera mode=runtime"; done
	} | sim
}

quick_machine() {
	sim set debounce=20 enumerate=20 udev=1
}

# Half of a test's cameras have to be caught in the one window that they have.  Whether the daemon does that in a second and a half is
# what bench-pin measures; the other tests are to say the same on a machine that gives nobody the processor for a second.
on_vm || sim set window=3

at() {
	echo "$1"
}

port() {
	sim port "$1" 2> /dev/null
}

# --- the bus ---

bus_pid=
bus_address=
bus_options=()
bus_policy=

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
		  $bus_policy
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
	bus_options=(--bus-address "$bus_address")
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
	if [ -n "${KERNEL_LOG:-}" ]; then
		kernel_logs=$((kernel_logs + 1))
		sim kernel-log "$T/kernel-log.$kernel_logs"
		set -- --kernel-log "$T/kernel-log.$kernel_logs" "$@"
	fi
	"${DAEMON_WRAPPER[@]}" "$camrescued" --state-directory "$T/state" --configuration "$T/camrescue.conf" \
		--boards-directory "$source_directory/boards" --bus-address "$bus_address" --log stderr --debug "$@" \
		>> "$T/camrescued.log" 2>&1 &
	daemon_pid=$!
	wait_for_daemon
}
DAEMON_WRAPPER=()
kernel_logs=0

# until_told MATCH COMMAND...: until it succeeds, within 30 s.  It is asked anew whenever the bus has told something that matches; the first thing
# that a monitor hears is its own name, and from then on it hears everything.
until_told() {
	local match=$1 line monitor status=1
	shift

	exec 7< <(exec timeout 30 dbus-monitor --address "$bus_address" "$match" 2> /dev/null)
	monitor=$!
	while read -r -u 7 line; do
		if "$@"; then
			status=0
			break
		fi
	done
	kill "$monitor" 2> /dev/null
	exec 7<&-
	return $status
}

# Until the name is owned, or will not be.
wait_for_daemon() {
	until_told "type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.camrescue1'" came_up && kill -0 "$daemon_pid" 2> /dev/null && return 0
	echo "# camrescued did not come up"
	print_logs
	return 1
}

came_up() {
	daemon_is_on_bus || ! kill -0 "$daemon_pid" 2> /dev/null
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

# When somebody else has told it to end; a second word of ours would make it hurry.
daemon_ends() {
	local status=0

	wait "$daemon_pid" || status=$?
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
	timeout --foreground "${CAM_TIMEOUT:-120}" "$camrescue" "${bus_options[@]}" "$@"
}

# How many times as long as usual things may take: an emulated processor.
slowness=1

wait_status() {
	local camera=$1 condition=$2 seconds=$((${3:-30} * slowness))

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

if on_vm; then
	# shellcheck source=tests/integration/harness-vm.sh
	. "$source_directory/tests/integration/harness-vm.sh"
fi
