#!/bin/bash
# Checks the dependencies: licences, bans and sources, and known advisories where their database can be had. Where it
# cannot, that is said and is no failure. `make deny` calls it.
set -eu
cd "$(dirname "$0")/.."
. tests/tools.sh
cargo_tool cargo-deny
cargo=${CARGO:-cargo}
$cargo deny check licenses bans sources
if timeout 120 $cargo deny fetch db >"$tools/advisories.log" 2>&1; then
  $cargo deny check --disable-fetch advisories
else
  echo "advisories NOT checked: their database cannot be had here. It said:"
  sed 's/^/  /' "$tools/advisories.log" | tail -3
fi
