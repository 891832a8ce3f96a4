# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What a test of a story asks in the end: which transfers a device got, what was
# written to it, and what stands in its flash.  Sourced after harness.sh; the
# answers come from the simulated camera, never from the program under test.
# Verbs:
#
#     store [VERSION [BOARD...]]  a release of every board, or of these, in the daemon's store and in $T/release
#     counter CAMERA WORD         one of the numbers of "sim counters"
#     id_of CAMERA                its unique id
#     recall CAMERA...            counters at zero; flash and log as they are now are what is compared with later
#     recount CAMERA...           the same without the flash: that is compared with what it was when it was recalled
#     untouched CAMERA...         not one transfer, and its node was not opened
#     read_only CAMERA...         nothing erased, nothing programmed
#     peeked_at CAMERA            opened, at most 4 KiB read, and not one request that could have written
#     unchanged CAMERA [PARTITION...]     every partition but these, byte for byte as recalled
#     has CAMERA PARTITION FILE   these bytes stand there
#     away CAMERA NAME            unplugs it, and waits until the daemon has seen that (NAME: how the client knows it)
#     advises NAME WORDS          the client shows these words about it
#     wait_for_text PORT PATTERN  until the daemon says so of it
#     times PORT                  how often in a row what is there did not answer, as the daemon says

id_of() {
	sim cameras | sed -n "s/^$1 .* id=\([^ ]*\).*/\1/p"
}

counter() {
	local all

	all=$(sim counters "$1")
	[[ $all =~ \"$2\":\ ([0-9]+) ]] && echo "${BASH_REMATCH[1]}"
}

# AE3's bootloader is refused, and rightly: it has no place to go.
store() {
	local version=${1:-5.0.0} images=22 board

	if [ $# -le 1 ]; then
		sim firmware-folder "$T/release" version="$version"
	else
		shift
		# Bootloader, firmware and a file system each; of AE3, two of each but the bootloader.
		images=$((3 * $#))
		for board; do
			sim firmware-folder "$T/release" version="$version" board="$board"
			[ "$board" != AE3 ] || images=$((images + 1))
		done
	fi
	cam firmware import "$T/release" > "$T/import.log" 2>&1
	[ "$(grep -c '^added ' "$T/import.log")" = $images ] || { sed 's/^/# /' "$T/import.log"; false; }
}

# There is one partition list a board; the simulator says it when it is asked for one that is not there.
partitions() {
	sim dump "$1" - /dev/null 2>&1 | sed -n 's/.*there are: *//p' | tr ', ' '\n\n' | grep .
}

recall() {
	local camera partition

	for camera; do
		for partition in $(partitions "$camera"); do
			sim dump "$camera" "$partition" "$T/recalled-$camera-$partition"
		done
	done
	recount "$@"
}

recount() {
	local camera

	sim reset-counters "$@"
	for camera; do
		awk -v camera="$camera" '$2 == camera { n++ } END { print n + 0 }' "$T/camsim.log" > "$T/recalled-$camera"
	done
}

# Its lines of camsim's log, since recall.
trace_of() {
	awk -v camera="$1" '$2 == camera' "$T/camsim.log" |
		tail -n +"$(($(cat "$T/recalled-$1" 2> /dev/null || echo 0) + 1))"
}

untouched() {
	local camera

	for camera; do
		if [ "$(counter "$camera" transfers)" != 0 ] || trace_of "$camera" | grep -aE "usbfs: opened|opened by a program"; then
			sim counters "$camera"
			trace_of "$camera" | tail -n 20
			return 1
		fi
	done
}

read_only() {
	local camera

	for camera; do
		if [ "$(counter "$camera" erases) $(counter "$camera" programmed_bytes)" != "0 0" ]; then
			sim counters "$camera"
			return 1
		fi
	done
}

peeked_at() {
	read_only "$1" && [ "$(counter "$1" transfers)" -gt 0 ] && [ "$(counter "$1" upload_bytes)" -le 4096 ] &&
		[ "$(counter "$1" download)" = 0 ] && [ "$(counter "$1" clr_status)" = 0 ] || { sim counters "$1"; false; }
}

unchanged() {
	local camera=$1 partition different=0

	shift
	for partition in $(partitions "$camera"); do
		[[ " $* " == *" $partition "* ]] || sim compare "$camera" "$partition" "$T/recalled-$camera-$partition" || different=1
	done
	return $different
}

has() {
	sim compare "$@"
}

away() {
	sim unplug "$1" 2> /dev/null
	wait_status "$2" mode=absent
}

advises() {
	cam status "$1" > "$T/advice" 2>&1
	grep -qF -- "$2" "$T/advice" || { cat "$T/advice"; false; }
}

wait_for_text() {
	local line seconds=$((20 * slowness))

	exec 7< <(exec timeout --foreground $seconds "$camrescue" --bus-address "$bus_address" watch --json --timeout $seconds "$(at "$1")")
	while read -r line <&7; do
		# shellcheck disable=SC2053 # a pattern
		if [[ $line == *'"text": "'$2'"'* || $line == *'"text":"'$2'"'* ]]; then
			exec 7<&-
			return 0
		fi
	done
	exec 7<&-
	status "$1" .diagnosis.text
	return 1
}

times() {
	local text
	text=$(status "$1" .diagnosis.text)
	case $text in *"("*" times in a row)"*) text=${text#*"("}; echo "${text%% *}" ;; *) echo 1 ;; esac
}
