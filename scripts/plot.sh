#!/usr/bin/env bash
# Draws the training loss (thin) and the validation loss (points) of one or more runs.
#
# Usage: scripts/plot.sh RUN... --out FILE.svg|FILE.png
#
# Reads RUN/metrics.jsonl; needs gnuplot and awk. Rows whose loss is null are left out.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

out=
runs=()
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out=${2:-} && shift ;;
    --out=*) out=${1#--out=} ;;
    --help) show_help && exit 0 ;;
    -*) die "unknown flag $1; see --help" ;;
    *) runs+=("${1%/}") ;;
  esac
  shift || true
done
[ ${#runs[@]} -gt 0 ] || die "name at least one run directory; see --help"
case "$out" in
  *.svg) terminal="svg size 960,600 dynamic background rgb 'white' font 'sans-serif,14'" ;;
  *.png) terminal="pngcairo size 1440,900 background rgb 'white' font 'sans,18'" ;;
  '') die "--out FILE.svg or FILE.png is missing" ;;
  *) die "$out: the name must end in .svg or .png" ;;
esac
command -v gnuplot > /dev/null || die "gnuplot is missing (Debian: gnuplot-nox)"
[ ! -d "$out" ] || die "$out: is a folder; --out names a file"
if [ -L "$out" ] && [ ! -e "$out" ]; then
  die "$out: is a link to $(readlink "$out"), which is not there: remove it, or give another name"
fi
[ -d "$(dirname "$out")" ] || die "$(dirname "$out"): no such folder for --out"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# columns LOSS FILE: "step value" of every row that has both as numbers.
columns() {
  awk -v name="$1" '
    function value(key) {
      if (!match($0, "\"" key "\":[ ]*[-+0-9.eE]+")) return ""
      found = substr($0, RSTART, RLENGTH)
      sub(/^.*:[ ]*/, "", found)
      return found
    }
    /\}[ \t\r]*$/ {
      step = value("step")
      y = value(name)
      if (step != "" && y != "") print step, y
    }' "$2"
}

# For gnuplot's single-quoted strings.
quoted() { printf "'%s'" "${1//\'/\'\'}"; }

curves=()
for i in "${!runs[@]}"; do
  run=${runs[$i]}
  metrics=$run/metrics.jsonl
  [ -f "$metrics" ] || die "$metrics: no such file; is $run a run directory?"
  columns loss "$metrics" > "$work/train_$i"
  columns val_loss "$metrics" > "$work/val_$i"
  [ -s "$work/train_$i" ] || [ -s "$work/val_$i" ] || die "$metrics: holds no losses yet"
  name=$(basename "$run")
  for other in "${!runs[@]}"; do
    if [ "$other" != "$i" ] && [ "$(basename "${runs[$other]}")" = "$name" ]; then name=$run; fi
  done
  if [ -s "$work/train_$i" ]; then
    curves+=("'$work/train_$i' with lines lt $((i + 1)) lw 0.7 title $(quoted "$name, training")")
  fi
  if [ -s "$work/val_$i" ]; then
    curves+=("'$work/val_$i' with linespoints lt $((i + 1)) lw 2.5 pt 7 ps 0.8 title $(quoted \
      "$name, validation")")
  fi
done

{
  echo "set terminal $terminal noenhanced"
  echo "set output '$work/picture'"
  echo "set xlabel 'step'; set ylabel 'loss (nats per token)'"
  echo "set grid lc rgb '#dddddd' lt 1; set border 3; set tics nomirror; set key top right"
  echo "set xrange [0:*]; set format x '%.0f'; set offsets 0, 0, graph 0.02, graph 0.02"
  printf 'plot %s' "${curves[0]}"
  printf ', %s' "${curves[@]:1}" | sed 's/^, $//'
  echo
} > "$work/script"
gnuplot "$work/script" > "$work/messages" 2>&1 ||
  die "gnuplot failed: $(tail -n 1 "$work/messages")"
[ -s "$work/picture" ] || die "gnuplot wrote nothing: $(tail -n 1 "$work/messages")"
cp "$work/picture" "$out" 2> /dev/null || die "$out: cannot be written"
