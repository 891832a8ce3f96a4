# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For tests of the client alone: bash, TAP.  mock-daemon says what it is told on
# a private bus.  No sleeps: each wait is for a line or an end, with a deadline.
# A test begins with
#
#     #!/bin/bash
#     # SPDX-License-Identifier: MIT
#     . "$(dirname "$0")/client.sh"
#
# and ends with done_testing.

set -u
source_directory=${CAMRESCUE_SRCDIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
top=${CAMRESCUE_BUILDDIR:-$source_directory/build}
client=$top/camrescue
mock_program=$top/tests/integration/mock-daemon
check=$top/tests/integration/json-check
deadline=20
n=0
failed=0
bus_pid=
mock_pid=
client_pid=

unset NO_COLOR CAMRESCUE_BUS_ADDRESS XDG_CONFIG_HOME SYSTEMD_BUS_TIMEOUT
export LC_ALL=C.UTF-8 TZ=UTC

for program in dbus-daemon tmux; do
	command -v "$program" > /dev/null || { echo "1..0 # SKIP no $program"; exit 0; }
done
tmp=$(mktemp -d) || exit 99
export HOME=$tmp/home
mkdir "$HOME"

cleanup() {
	tmux -S "$tmp/tmux" kill-server 2> /dev/null
	[ -z "$client_pid" ] || kill -KILL "$client_pid" 2> /dev/null
	[ -z "$mock_pid" ] || kill "$mock_pid" 2> /dev/null
	[ -z "$bus_pid" ] || kill "$bus_pid" 2> /dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT

# --- TAP ---

# is NAME COMMAND...: a case that holds when the command succeeds.
is() {
	local name=$1
	shift
	n=$((n + 1))
	if "$@" > "$tmp/case" 2>&1; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		failed=$((failed + 1))
		{
			echo "failed: $*"
			head -c 1000 "$tmp/case"
			echo "exit status ${code:-?}; output:"
			head -c 3000 "$tmp/out" 2> /dev/null
			echo "errors:"
			head -c 1000 "$tmp/err" 2> /dev/null
		} | sed 's/^/#   /'
	fi
}

die() {
	echo "Bail out! $*"
	exit 99
}

# --- the bus and the daemon ---

start_bus() {
	cat > "$tmp/bus.conf" <<-END
		<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
		 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig>
		<type>session</type><listen>unix:path=$tmp/bus</listen><auth>EXTERNAL</auth>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
		</busconfig>
	END
	exec {bus_ready}< <(exec dbus-daemon --config-file="$tmp/bus.conf" --nofork --nopidfile --print-address=1 2> /dev/null)
	bus_pid=$!
	read -r -t "$deadline" -u "$bus_ready" _ || die "no bus"
	export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$tmp/bus
}

# What the daemon was asked; newest last.
calls=()

answer() {
	local line
	while read -r -t "$deadline" -u "$mock_out" line; do
		[ "$line" != ok ] || return 0
		calls+=("$line")
		[[ $line == called* ]] || die "the mock says: $line"
	done
	die "the mock does not answer"
}

start_mock() {
	rm -f "$tmp/commands"
	mkfifo "$tmp/commands"
	# Held open for writing by us alone, so that the mock ends with us.
	exec {mock_out}< <(exec "$mock_program" < "$tmp/commands" 2>&1)
	mock_pid=$!
	exec {mock_in}> "$tmp/commands"
	calls=()
	answer
}

mock() {
	local line
	for line; do
		printf '%s\n' "$line" >&"$mock_in"
		answer
	done
}

end_mock() {
	exec {mock_in}>&-
	wait "$mock_pid" 2> /dev/null
	exec {mock_out}<&-
	mock_pid=
}

# (Who was started since holds its input open as well: so it is told.)
stop_mock() {
	printf 'quit\n' >&"$mock_in"
	end_mock
}

kill_mock() {
	kill -KILL "$mock_pid"
	end_mock
}

# What was asked until now is in calls; forget: and no more.
heard() { mock nothing; }
forget() { heard; calls=(); }

# await_call PATTERN: the daemon is asked, or was since the calls were last read.
await_call() {
	local line
	while :; do
		for line in "${calls[@]}"; do
			# shellcheck disable=SC2053 # a pattern
			[[ $line != $1 ]] || { calls=(); return 0; }
		done
		read -r -t "$deadline" -u "$mock_out" line || die "no call: $1"
		calls+=("$line")
	done
}

cameras() {
	mock 'camera|a|UniqueId=344F3663330D5113001F002A|Key=344F3663330D5113001F002A|Serial=344F3663330D5113001F002A|Board=OPENMV3|BoardName=OpenMV Cam M7|Port=3-1.2|Attached=yes|Mode=runtime|State=running|FirmwareVersion=4.8.1|BootloaderVersion=1.0.3|LastSeen=1700000000123456|DeviceNode=/dev/bus/usb/003/004|Automatic=1|Saved=FIRMWARE,BOOTLOADER' \
		'camera|b|UniqueId=34303639330D5113001F002B|Key=34303639330D5113001F002B|Serial=200364500000|Board=OPENMV4|BoardName=OpenMV Cam H7|Port=3-1.10|Attached=yes|Mode=rom-dfu|State=stuck-in-rom|Diagnosis=jumper|DiagnosisText=The bootloader on the camera is good; its BOOT pin is still pulled|Advice=Remove the jumper between BOOT and RST, or look for a short.' \
		'camera|c|Key=P:1-4|Serial=STM32FxSTM32|Port=1-4|Attached=yes|Mode=rom-dfu|State=unproven' \
		'update|7|Id=7|Camera=/org/camrescue1/camera/d|Firmware=5.0.0|Wish=update|Step=writing|Image=HP|Progress=0.4567|BytesDone=400000|BytesTotal=1000000|Result=open|Started=1700000000000000' \
		'camera|d|UniqueId=30303639330D5113001F002C|Key=30303639330D5113001F002C|Board=OPENMV_AE3|BoardName=OpenMV AE3|Port=1-2|Attached=yes|Mode=bootloader|State=updating|Update=/org/camrescue1/update/7' \
		'camera|e|UniqueId=10303639330D5113001F002D|Key=10303639330D5113001F002D|Board=OPENMV2|BoardName=OpenMV Cam M4|Port=1-3|Attached=no|Mode=absent|State=absent|FirmwareVersion=4.5.9'
}

# --- the client ---
# (timeout --foreground: otherwise SIGCONT follows a signal, and undoes the stop by which LeakSanitizer begins.)

run() {
	timeout --foreground "$deadline" "$client" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null
	code=$?
}

# begin COMMAND...; then end: the same in the background.  client_pid is the client's own: a timeout(1) that is signalled before it has
# noted its child ends alone, and the client goes on.
begin() {
	env --default-signal=INT,QUIT "$client" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null &
	client_pid=$!
}

# (Within the deadline; the guard ends with it.)
end() {
	{ timeout "$deadline" tail --pid="$client_pid" -s 0.2 -f /dev/null || kill -KILL "$client_pid"; } 2> /dev/null &
	wait "$client_pid"
	code=$?
	client_pid=
}

exits() { [ "$code" -eq "$1" ]; }
out_is() { [ "$(cat "$tmp/out")" = "$1" ] || { cat "$tmp/out"; return 1; }; }
out_has() { grep -qF -- "$1" "$tmp/out"; }
out_lacks() { ! grep -qF -- "$1" "$tmp/out"; }
out_matches() { grep -qE -- "$1" "$tmp/out"; }
err_has() { grep -qF -- "$1" "$tmp/err"; }
err_empty() { [ ! -s "$tmp/err" ]; }
out_empty() { [ ! -s "$tmp/out" ]; }
json() { "$check" doc "$tmp/out" "$@"; }
jsonl() { "$check" lines "$tmp/out" "$@"; }
both() { "${@:1:2}" && "${@:3}"; }
was_called() { local line; for line in "${calls[@]}"; do [[ $line != $1 ]] || return 0; done; return 1; }

# On a terminal of COLUMNS x ROWS; the screen is then in out.
on_terminal() {
	local size=$1 command=$2
	tmux -S "$tmp/tmux" -f /dev/null new-session -d -s t -x "${size%x*}" -y "${size#*x}" \
		"$command; printf 'status %s\\n' \$?; tmux -S '$tmp/tmux' wait-for -S done; read -r _" || die "no tmux"
}

screen() {
	tmux -S "$tmp/tmux" capture-pane -p -t t ${1:+-e} > "$tmp/out"
}

terminal_done() {
	timeout "$deadline" tmux -S "$tmp/tmux" wait-for done || die "the terminal does not come to an end"
	screen "${1:-}"
	tmux -S "$tmp/tmux" kill-session -t t
}

done_testing() {
	[ -z "$mock_pid" ] || stop_mock
	echo "1..$n"
	[ "$failed" -eq 0 ]
	exit
}
