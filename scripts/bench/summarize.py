"""One JSON line for a benchmark run: the median step of a metrics.jsonl, warm-up rows left out."""

import argparse
import json
import statistics


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics")
    parser.add_argument("--label", required=True)
    parser.add_argument("--skip", type=int, default=3, help="first rows to leave out")
    args = parser.parse_args()
    with open(args.metrics, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if "step_ms" in row][args.skip :]
    if not rows:
        raise SystemExit(f"{args.metrics}: no rows after the first {args.skip}")

    def median(key):
        values = [row[key] for row in rows if row[key] is not None]
        return statistics.median(values) if values else None

    peak = median("memory_peak_bytes")
    print(json.dumps({
        "label": args.label, "steps": len(rows), "step_ms": round(median("step_ms"), 2),
        "tokens_per_second": round(median("tokens_per_second")), "mfu": median("mfu"),
        "comm_exposed_ms": median("comm_exposed_ms"),
        "peak_gib": None if peak is None else round(peak / 2**30, 1)}))


if __name__ == "__main__":
    main()
