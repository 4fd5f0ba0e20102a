#!/usr/bin/env bash
# Proves the two commands on a machine with nothing installed: makes a minimal Debian root, copies
# the repository in, runs scripts/quickstart.sh and scripts/test.sh inside, and reports the times.
#
# Usage: scripts/fresh_debian.sh [--root DIR] [--suite NAME] [--worktree] [--quickstart-only]
#   --root DIR         where to make the root; default: a temporary folder, removed at the end
#   --suite NAME       bookworm (default), or an Ubuntu suite such as noble
#   --worktree         copy the files as they are, not as committed
#   --quickstart-only  leave scripts/test.sh out
#
# Needs root and debootstrap. DEBIAN_MIRROR names another mirror; proxy settings and PIP_CERT are
# passed on.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

target=
suite=bookworm
worktree=no
tests=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --root) target=${2:?--root needs a folder} && shift ;;
    --suite) suite=${2:?--suite needs a name} && shift ;;
    --worktree) worktree=yes ;;
    --quickstart-only) tests=no ;;
    --help) show_help && exit 0 ;;
    *) die "unknown argument $1; see --help" ;;
  esac
  shift
done
[ "$(id -u)" -eq 0 ] || die "must run as root (chroot and mounts)"
command -v debootstrap > /dev/null || die "debootstrap is missing (Debian: debootstrap)"

temporary=
if [ -z "$target" ]; then
  temporary=$(mktemp -d)
  target=$temporary/root
fi
mounts=()

clean_up() {
  local i
  for ((i = ${#mounts[@]} - 1; i >= 0; --i)); do umount -l "${mounts[$i]}" || true; done
  if [ -n "$temporary" ]; then rm -rf --one-file-system "$temporary"; fi
}
trap clean_up EXIT

attach() {
  mkdir -p "$target/$2"
  mount "${@:3}" "$1" "$target/$2"
  mounts+=("$target/$2")
}

seconds() { date +%s; }

report=()
timed() {
  local name=$1 begin code=0
  shift
  begin=$(seconds)
  "$@" || code=$?
  report+=("$(printf '%-28s exit %-3d %5d s' "$name" "$code" $(($(seconds) - begin)))")
  return "$code"
}

make_root() {
  local components=main from=(${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"})
  # Ubuntu keeps half of the packages outside main. Suites younger than this debootstrap are made
  # as gutsy was: its script serves them all.
  case "$suite" in
    bookworm | trixie | sid) ;;
    *)
      components=main,universe
      from=("${DEBIAN_MIRROR:-http://archive.ubuntu.com/ubuntu}" gutsy)
      ;;
  esac
  quietly "$target.debootstrap.log" debootstrap --variant=minbase --components="$components" \
    "$suite" "$target" "${from[@]}"
  rm -f "$target.debootstrap.log"
  # Names, this machine's own among them: mpirun looks it up at every start.
  cp /etc/resolv.conf /etc/hosts "$target/etc/"
  # How this machine reaches its mirror holds inside as well.
  apt-config dump | grep -E '^Acquire::(https?|ftp)::|^Acquire::Retries' \
    > "$target/etc/apt/apt.conf.d/90host" || true
  # The same for PyPI: a proxy between may sign with a certificate of its own.
  if [ -n "${PIP_CERT:-}" ]; then cp "$PIP_CERT" "$target/etc/host_certificates.crt"; fi
}

copy_repository() {
  mkdir -p "$target/lockstep"
  if [ "$worktree" = yes ]; then
    git -C "$root" ls-files -z --cached --others --exclude-standard |
      tar -C "$root" --null -T - -cf - --ignore-failed-read
  else
    git -C "$root" archive HEAD
  fi | tar -C "$target/lockstep" -xf -
}

inside() {
  chroot "$target" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI=true \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
    ${PIP_CERT:+PIP_CERT=/etc/host_certificates.crt} \
    bash -c "cd /lockstep && $1" < /dev/null
}

timed "debootstrap $suite" make_root
copy_repository
# A mount point of its own, which tests need that make namespaces.
attach "$target" . --bind
attach proc proc -t proc
attach /sys sys --rbind
attach /dev dev --rbind

code=0
timed "scripts/quickstart.sh" inside scripts/quickstart.sh || code=$?
if [ "$code" -eq 0 ]; then
  timed "scripts/quickstart.sh, again" inside scripts/quickstart.sh || code=$?
fi
if [ "$code" -eq 0 ] && [ "$tests" = yes ]; then
  timed "scripts/test.sh" inside scripts/test.sh || code=$?
fi
printf '\nfresh %s on %s cores:\n' "$suite" "$(cores)"
printf '  %s\n' "${report[@]}"
exit "$code"
