#!/usr/bin/env bash
# scripts/plot.sh on made-up metrics: both formats, nulls, torn lines, awkward names, and one-line
# errors. Run from the repository's root.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" && exit 1; }

make_run() {
  mkdir -p "$work/$1"
  awk -v from="$2" 'BEGIN {
    for (step = 10; step <= 200; step += 10) {
      loss = (step == 100) ? "null" : from * exp(-step / 100) + 1
      printf "{\"step\":%d,\"tokens\":1,\"loss\":%s,\"loss_scale\":65536.0}\n", step, loss
      if (step % 50 == 0) printf "{\"step\":%d,\"tokens\":1,\"val_loss\":%g}\n", step, from / 2 + 1
    }
    printf "{\"step\":900000,\"lo"
  }' > "$work/$1/metrics.jsonl"
}
make_run first 3
make_run "it's_second" 2

scripts/plot.sh "$work/first" "$work/it's_second/" --out "$work/a.svg"
grep -q '<svg' "$work/a.svg" || fail "no svg"
for word in "first, training" "first, validation" "s_second, training" "step" "nats per token"; do
  grep -q "$word" "$work/a.svg" || fail "the picture lacks '$word'"
done
if grep -q '900000\|800000' "$work/a.svg"; then fail "a torn line was drawn"; fi
scripts/plot.sh "$work/first" "--out=$work/a.png"
[ "$(head -c 4 "$work/a.png" | tail -c 3)" = PNG ] || fail "no png"

expect_error() {
  local wanted=$1 said code=0
  shift
  said=$(scripts/plot.sh "$@" 2>&1) || code=$?
  [ "$code" -ne 0 ] || fail "no error for $*"
  [ "$(wc -l <<< "$said")" -eq 1 ] || fail "more than one line for $*: $said"
  case "$said" in *"$wanted"*) ;; *) fail "'$said' does not say '$wanted'" ;; esac
}
mkdir "$work/empty" "$work/nothing"
echo '{"step":1,"loss":null}' > "$work/empty/metrics.jsonl"
expect_error "--out" "$work/first"
expect_error "name at least one run" --out "$work/x.svg"
expect_error "no such file" "$work/nothing" --out "$work/x.svg"
expect_error "holds no losses" "$work/empty" --out "$work/x.svg"
expect_error ".svg or .png" "$work/first" --out "$work/x.pdf"
expect_error "unknown flag" "$work/first" --wide --out "$work/x.svg"
expect_error "no such folder" "$work/first" --out "$work/none/x.svg"
mkdir "$work/folder.svg" && ln -s "$work/nowhere.svg" "$work/gone.svg"
expect_error "is a folder" "$work/first" --out "$work/folder.svg"
expect_error "is a link to $work/nowhere.svg" "$work/first" --out "$work/gone.svg"
ln -s "$work/real.svg" "$work/link.svg" && touch "$work/real.svg"
scripts/plot.sh "$work/first" --out "$work/link.svg" || fail "no picture behind a link"
[ -s "$work/real.svg" ] && [ -L "$work/link.svg" ] || fail "the link was replaced"
echo "plot: all as expected"
