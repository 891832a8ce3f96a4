#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes configure.  Afterwards build out of tree: mkdir build && cd build && ../configure && make
set -e
cd "$(dirname "$0")"
mkdir -p m4 build-aux
exec autoreconf --install --force --warnings=all,no-obsolete,no-portability
