# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For tests that run in the virtual machine (TAP; bash): makes what they need
# once, below the build directory, and runs scripts inside.  Verbs:
#
#     prepare                     the guest, and the Debian package, built from what a tarball would hold
#     guest NAME SECONDS SCRIPT [ARGUMENT...]      runs it inside, prints what it says; its exit status.  The package is
#                                 at /share/camrescue.deb.  Options of run-guest: guest_options=()
#
# Two tests may prepare at the same time; the second waits for the first.  Logs: BUILD/tests/vm/NAME/.

set -u
set -o pipefail
LC_ALL=C.UTF-8
export LC_ALL

vm_source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source_directory=${CAMRESCUE_SRCDIR:-$vm_source}
build_directory=${CAMRESCUE_BUILDDIR:-$source_directory/build}
vm_directory=$build_directory/tests/vm
guest_options=()

skip_all() {
	echo "1..0 # SKIP $*"
	exit "${SKIP_STATUS:-0}"
}

bail_out() {
	echo "Bail out! $*"
	exit 99
}

# The tree that a tarball would hold, and the package of it; kept as long as the tree is the same, but for the tests: nothing of them is
# in the package, and it is built without running them.
make_package() {
	local tree=$vm_directory/package/camrescue digest

	mkdir -p "$vm_directory/package"
	chmod -R u+w "$tree" 2> /dev/null
	rm -rf "$tree"
	(
		unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES DESTDIR
		timeout --kill-after=10 900 make -s -C "$build_directory" distdir distdir="$tree"
	) > "$vm_directory/package/log" 2>&1 || { cat "$vm_directory/package/log"; return 1; }
	digest=$(cd "$tree" && find . -type f ! -name config.h.in~ ! -path './tests/*' -exec sha256sum {} + | sort -k 2 | sha256sum)
	if [ "$(cat "$vm_directory/package/digest" 2> /dev/null)" = "$digest" ]; then
		return 0
	fi
	rm -f "$vm_directory/package"/*.deb "$vm_directory/package/digest"
	(
		cd "$tree" || exit 1
		unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES DESTDIR
		DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" timeout --kill-after=10 900 dpkg-buildpackage -b -us -uc
	) > "$vm_directory/package/log" 2>&1 || { tail -n 40 "$vm_directory/package/log"; return 1; }
	echo "$digest" > "$vm_directory/package/digest"
}

# What is prepared is made, and taken, by one at a time.
lock() {
	mkdir -p "$vm_directory" || exit 99
	exec 6> "$vm_directory/lock"
	# As long as all that he does may take.
	flock -w 2700 6 || bail_out "somebody else prepares, for ever"
}

prepare() {
	local program lacking='' output

	for program in qemu-system-x86_64 mmdebstrap mke2fs dpkg-buildpackage dh; do
		PATH=$PATH:/usr/sbin command -v $program > /dev/null || lacking+=" $program"
	done
	[ -z "$lacking" ] || skip_all "missing:$lacking (packages qemu-system-x86, mmdebstrap, e2fsprogs, dpkg-dev, debhelper)"
	lock
	output=$(timeout --kill-after=10 900 "$source_directory/tests/vm/make-guest" "$build_directory/guest" 2>&1)
	case $? in
	0) ;;
	77) skip_all "${output##*make-guest: }" ;;
	124) bail_out "no guest in a quarter of an hour: $build_directory/guest/log" ;;
	*)
		echo "$output" | sed 's/^/# /'
		bail_out "no guest"
		;;
	esac
	output=$("$source_directory/tests/vm/run-guest" --guest "$build_directory/guest" --probe 2>&1) || bail_out "$output"
	echo "# processor: $output"
	output=$(make_package 2>&1) || { echo "$output" | sed 's/^/# /'; bail_out "no package"; }
	exec 6>&-
}

guest() {
	local name=$1 seconds=$2 share=$vm_directory/$1
	shift 2

	rm -rf "$share"
	mkdir -p "$share"
	lock
	cp "$vm_directory/package"/camrescue_*.deb "$share/camrescue.deb" || return 125
	exec 6>&-
	"$source_directory/tests/vm/run-guest" --guest "$build_directory/guest" --share "$share" --seconds "$seconds" \
		--mount "$source_directory" --mount "$build_directory" "${guest_options[@]}" -- \
		env CAMRESCUE_MACHINE=vm CAMRESCUE_SRCDIR="$source_directory" CAMRESCUE_BUILDDIR="$build_directory" bash "$@"
}

