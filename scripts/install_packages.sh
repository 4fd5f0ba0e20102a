#!/usr/bin/env bash
# Installs the Debian 12 or Ubuntu 24.04 packages that Lockstep needs and this machine lacks.
#
# Usage: scripts/install_packages.sh [--tests] [--list]
#   --tests  also what the tests use beside the program: python3 with venv and h5py, PyTorch and
#            Slurm. The last two only on Debian: the tests that want them are skipped elsewhere.
#            Slurm's daemons do not start without a configuration; the tests bring their own
#   --list   only print the packages
#
# Works as root or with passwordless sudo; otherwise prints the one line to run and exits 1. Does
# nothing, and asks nothing, when all are there.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

packages=(g++ cmake ninja-build libfmt-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev
  libgtest-dev libssl-dev libhdf5-dev libopenblas-dev libopenmpi-dev openmpi-bin gnuplot-nox
  libpcre2-dev libutf8proc-dev libzstd-dev zlib1g-dev)
system=$(sed -n 's/^ID\(_LIKE\)\?=//p' /etc/os-release 2> /dev/null || true)
only_list=no
while [ $# -gt 0 ]; do
  case "$1" in
    --tests)
      packages+=(python3 python3-venv python3-h5py python3-numpy)
      [[ $system == *ubuntu* ]] || packages+=(python3-torch slurmctld slurmd slurm-client
        slurm-wlm-basic-plugins munge iproute2)
      ;;
    --list) only_list=yes ;;
    --help) show_help && exit 0 ;;
    *) say "install_packages.sh: error: unknown argument $1; see --help" && exit 64 ;;
  esac
  shift
done

if [ "$only_list" = yes ]; then
  printf '%s\n' "${packages[@]}" | sort -u
  exit 0
fi
if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  say "no Debian packages here: install what scripts/build.sh names, or set CMAKE_PREFIX_PATH"
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2> /dev/null; then
    say "these packages are missing; run this line, then start again:"
    say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    exit 1
  fi
  as_root=(sudo -n)
fi

say "installing ${missing[*]}"
log=$(mktemp -d)/apt.log
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
quietly "$log" "${as_root[@]}" "${apt[@]}" update
quietly "$log" "${as_root[@]}" "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
rm -rf "$(dirname "$log")"
