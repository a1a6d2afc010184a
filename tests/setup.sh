#!/bin/bash
# Makes a Debian machine able to build Backstay, and with the word "test" to test it: installs what is missing, or says
# how. Quiet when all is there.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${HOME:-/root}/.cargo/bin

# program:package
needed="etcd:etcd-server etcdctl:etcd-client nats-server:nats-server age:age zstd:zstd promtool:prometheus
  protoc:protobuf-compiler openssl:openssl cc:build-essential make:build-essential systemd-analyze:systemd python3:python3
  ssh-keygen:openssh-client"
# Tests set the clock of a program.
[ "${1:-}" != test ] || needed="$needed faketime:faketime"
# With its check, bbolt itself looks at what a restore has written.
bbolt=
if [ "${1:-}" = test ] && [ -z "${BACKSTAY_TEST_BBOLT:-}" ]; then
  needed="$needed go:golang-go"
  bbolt=/usr/share/gocode/src/github.com/coreos/bbolt
fi

missing() {
  local pair file
  {
    for pair in $needed; do
      file=$(command -v "${pair%%:*}") && [ -x "$file" ] || echo "${pair##*:}"
    done
    # protoc comes without the files that etcd's own .proto files import; it looks for them beside itself.
    file=$(command -v protoc) && [ -e "$(dirname "$file")/../include/google/protobuf/descriptor.proto" ] || echo libprotobuf-dev
    [ -z "$bbolt" ] || [ -e "$bbolt" ] || echo golang-github-coreos-bbolt-dev
    # The client in Python lives in a venv, which Debian's python3 makes only with this.
    python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
  } | sort -u | xargs
}

packages=$(missing)
if [ -n "$packages" ]; then
  by_hand="apt-get update && apt-get install -y $packages"
  if ! command -v apt-get >/dev/null; then
    echo "setup: missing: $packages (names of Debian packages); this machine has no apt-get: install them by its own means" >&2
    exit 1
  fi
  if [ "$(id -u)" = 0 ]; then
    as_root=""
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
  else
    echo "setup: missing: $packages; as root, run:  $by_hand" >&2
    exit 1
  fi

  # Debian starts a server when its package is installed; the tests start their own, on ports of their own. A policy
  # of 101 forbids that for this installation; one that is there already is the machine's own affair.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap '$as_root rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
  fi
  echo "setup: installing $packages" >&2
  if ! log=$({ $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } 2>&1); then
    printf '%s\n' "$log" | tail -20 >&2
    echo "setup: apt-get failed; as root, run:  $by_hand" >&2
    exit 1
  fi
  # A start at the next boot is not wanted either, of a service that came only now.
  if [ -d /run/systemd/system ]; then
    for unit in etcd:etcd-server nats-server:nats-server prometheus:prometheus; do
      case " $packages " in
        *" ${unit##*:} "*) $as_root systemctl disable --quiet --now "${unit%%:*}" 2>/dev/null || true ;;
      esac
    done
  fi
  packages=$(missing)
  if [ -n "$packages" ]; then
    echo "setup: still missing after the installation: $packages" >&2
    exit 1
  fi
fi

if ! command -v cargo >/dev/null; then
  echo "setup: cargo is missing: install Rust 1.95 or later with rustup" >&2
  exit 1
fi
