# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# The verbs of harness.sh on a real machine, which a test has for itself: the
# kernel's USB, udevd, systemd and the system's bus; camrescued is the service
# as the package installs it.  Sourced by harness.sh.
#
# The service is started by udev as soon as there is a camera, and by systemd when it was killed; a test says when its
# daemon runs, so that it is masked at all other times.  When it is to run, a device that the rules know is plugged in beside the test's own, and
# taken out again: udev starts it for the stories, too.  What else starts it is what tests/vm/inside-machine looks at.

# --- the service ---

unit=camrescued.service
configuration=/etc/camrescue/camrescue.conf
follower=
slowness=3

# What another test has left goes before the first camera comes.
reset_machine() {
	[ -z "${KEEP_MACHINE:-}" ] || return 0
	systemctl --quiet --runtime mask $unit
	systemctl stop $unit
	systemctl reset-failed $unit 2> /dev/null
	rm -rf /var/lib/camrescue
	[ -e $configuration.installed ] || cp -a $configuration $configuration.installed
	cp -a $configuration.installed $configuration
}

start_bus() {
	bus_address=unix:path=/run/dbus/system_bus_socket
}

# (From this moment on, however late it begins to read.)
follow_log() {
	[ -z "$follower" ] || return 0
	: >> "$T/camrescued.log"
	journalctl --follow --lines=all --since="@$EPOCHREALTIME" --output=short-monotonic --no-hostname --unit=$unit >> "$T/camrescued.log" 2>&1 &
	follower=$!
}

# until_logged LINES PATTERN BAD: until a line stands in the service's log that matches, after the first so many, and not one that is bad; within 60 s.
until_logged() {
	local line tail status=1

	exec 7< <(exec timeout 60 tail --lines=+$(($1 + 1)) --follow "$T/camrescued.log" 2> /dev/null)
	tail=$!
	while read -r -u 7 line; do
		# shellcheck disable=SC2053 # patterns
		if [[ $line == $2 ]]; then
			status=0
			break
		elif [[ $line == $3 ]]; then
			break
		fi
	done
	kill $tail 2> /dev/null
	exec 7<&-
	return $status
}

# What the rules have the service started for: somebody else's chip in ROM DFU, which the daemon asks nothing, and forgets when it goes.  Its port
# is one that no test names, and so is its number: a chip that shows a camera's serial is that camera.
starter=
plug_starter() {
	{
		[ -n "$starter" ] || echo "camera starter foreign chip=f427 seed=9999"
		echo "plug starter 99-1"
	} | "$camsim" ctl || return 1
	[ -n "$starter" ] || starter=$(port starter)
}

# started_by_udev: for a device that is plugged in now, and is gone again when this returns; and by nothing else.
started_by_udev() {
	local began=$EPOCHREALTIME lines wanted asked status=0

	lines=$(wc -l < "$T/camrescued.log")
	plug_starter || return 1
	until_logged "$lines" "* systemd\[1\]: Started $unit *" "* systemd\[1\]: Failed to start $unit *" || status=1
	wanted=$(systemctl show --property=WantedBy --value $unit)
	asked=$(journalctl --quiet --since="@$began" --output=cat SYSLOG_IDENTIFIER=dbus-daemon | grep -F "'org.camrescue1'")
	"$camsim" ctl unplug starter
	[ $status -eq 0 ] || return 1
	[[ $wanted == *"usb${starter%-*}-${starter%-*}"*"x2d${starter#*-}.device"* ]] || { echo "# not for the device at $starter, but for $wanted"; return 1; }
	[ -z "$asked" ] || { echo "# somebody asked for it on the bus: $asked"; return 1; }
	# (What is there when it begins it has seen before it is active.)
	cam wait "$starter" --for absent --timeout $((20 * slowness))
}

start_daemon() {
	[ $# -eq 0 ] || { not_ok "(the installed service takes no options: $*)"; return 1; }
	start_bus
	follow_log
	if [ -e "$T/camrescue.conf" ]; then
		cp "$T/camrescue.conf" $configuration
	fi
	systemctl --quiet --runtime unmask $unit
	systemctl reset-failed $unit 2> /dev/null
	if ! started_by_udev; then
		echo "# camrescued did not come up"
		print_logs
		return 1
	fi
	daemon_pid=$(systemctl show --property=MainPID --value $unit)
}

# ended_well: what systemd says about it.
ended_well() {
	local said

	said=$(systemctl show --property=Result,ExecMainCode,ExecMainStatus $unit | paste -sd ' ')
	[ "$said" = "Result=success ExecMainCode=1 ExecMainStatus=0" ] || { echo "$said"; systemctl status --no-pager $unit; false; }
}

stop_daemon() {
	[ -n "$daemon_pid" ] || return 0
	local status=0

	daemon_pid=
	# At once; what appears now, and starts it anew, was there before it was masked.
	systemctl stop $unit
	ended_well || status=$?
	systemctl --quiet --runtime mask $unit
	systemctl stop $unit
	return $status
}

daemon_ends() {
	timeout 60 tail --pid="$daemon_pid" -f /dev/null || return 1
	stop_daemon
}

kill_daemon() {
	[ -n "$daemon_pid" ] || return 0
	daemon_pid=
	systemctl kill --signal=KILL $unit
	# Not again by systemd, which would within a second, nor by udev.
	systemctl stop $unit
	systemctl --quiet --runtime mask $unit
}

restart_daemon() {
	systemctl restart $unit || not_ok "camrescued is started again"
	daemon_pid=$(systemctl show --property=MainPID --value $unit)
}

stop_all() {
	[ -n "${KEEP_MACHINE:-}" ] || stop_daemon > /dev/null
	[ -z "$follower" ] || end_process "$follower" TERM
	follower=
	journalctl --dmesg --boot --lines=60 --output=short-monotonic --no-hostname > "$T/kernel.log" 2>&1
	reset_machine
}

# --- ports ---

# The kernel's ports are numbered as it likes.  A test's "2-3" is one of its own, and the client's word is the kernel's.
declare -A real_ports=()

quick_machine() {
	:
}

sim() {
	local status=0 port

	"$camsim" ctl "$@" || status=$?
	if [ "${1:-}" = plug ] || [ "${1:-}" = replug ]; then
		if [[ "${3:-}" =~ ^[0-9]+-[0-9.]+$ ]]; then
			port=$(port "$2")
			[ -z "$port" ] || real_ports[$3]=$port
		fi
	fi
	return $status
}

port() {
	"$camsim" ctl port "$1" 2> /dev/null
}

# And of anything else, itself.
at() {
	[ -z "$1" ] || echo "${real_ports[$1]:-$1}"
}

cam() {
	local argument arguments=()

	for argument; do arguments+=("$(at "$argument")"); done
	timeout --foreground "${CAM_TIMEOUT:-120}" "$camrescue" "${arguments[@]}"
}

reset_machine
# An emulated processor, and one port of a hub after the other: the bootloader's times are three times as long.
[ -n "${KEEP_MACHINE:-}" ] || "$camsim" ctl set window=3
