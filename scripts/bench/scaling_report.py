"""The table (Markdown) and the picture (SVG, with gnuplot) of a scaling.json."""

import pathlib
import shutil
import statistics
import subprocess


def median_of(runs, row, ranks, who, key):
    values = [r[key] for r in runs if (r["row"], r["ranks"], r["who"]) == (row, ranks, who)
              and r.get(key) is not None]
    return statistics.median(values) if values else None


def spread_of(runs, row, ranks):
    """Slowest over fastest step of our runs, in percent of the median."""
    ours = [r for r in runs if (r["row"], r["ranks"], r["who"]) == (row, ranks, "lockstep")
            and "fastest_ms" in r]
    if not ours:
        return None
    fastest, slowest = min(r["fastest_ms"] for r in ours), max(r["slowest_ms"] for r in ours)
    return 100.0 * (slowest - fastest) / statistics.median(r["step_ms"] for r in ours)


def cell(value, pattern):
    return "" if value is None else pattern.format(value)


def smallest(runs, row):
    return min(r["ranks"] for r in runs if r["row"] == row)


def share(runs, row, ranks, who):
    """Tokens a second over ranks times one GPU's (of the smallest world size measured)."""
    base = smallest(runs, row)
    one = median_of(runs, row, base, who, "tokens_per_second")
    many = median_of(runs, row, ranks, who, "tokens_per_second")
    return None if one is None or many is None else many / (one * ranks / base)


def bus_bandwidth(results, ranks, bytes_wanted=25 << 20):
    for size in results["allreduce"].get(str(ranks), {}).get("sizes", []):
        if size["bytes"] == bytes_wanted:
            return size["bus_gigabytes_per_second"]
    return None


def table(results):
    runs = results["runs"]
    lines = ["| row | GPUs | micro-batch x accumulation | tokens/s | of N x one | step spread "
             "| exposed reduction | bus GB/s at 25 MiB | PyTorch DDP | of N x one |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for row, ranks in sorted({(r["row"], r["ranks"]) for r in runs}):
        shape = next(r for r in runs if r["row"] == row and r["ranks"] == ranks)
        lines.append(" | ".join([
            f"| {row}", str(ranks), f"{shape['micro_batch']} x {shape['accumulation']}",
            cell(median_of(runs, row, ranks, "lockstep", "tokens_per_second"), "{:,.0f}"),
            cell(share(runs, row, ranks, "lockstep"), "{:.1%}"),
            cell(spread_of(runs, row, ranks), "{:.1f}%"),
            cell(median_of(runs, row, ranks, "lockstep", "exposed_ms"), "{:.2f} ms"),
            cell(bus_bandwidth(results, ranks), "{:.0f}"),
            cell(median_of(runs, row, ranks, "peer", "tokens_per_second"), "{:,.0f}"),
            cell(share(runs, row, ranks, "peer"), "{:.1%}") + " |"]))
    return "\n".join(lines) + "\n"


def checks(results):
    found = results["checks"]
    if "loss_difference" not in found:
        return ""
    lines = [f"Losses of the first 8 steps against one GPU, bound {found['loss_bound']:.0e}: "]
    lines += [f"- {ranks} ranks: {value:.1e}" for ranks, value in found["loss_difference"].items()]
    resumed = found["resumed"]
    lines.append(f"A snapshot of {resumed['from']} ranks, resumed, against the run that went on: ")
    for ranks, value in resumed["loss_difference"].items():
        text = value if isinstance(value, str) else f"{value:.1e}"
        lines.append(f"- {ranks} ranks: {text}")
    return "\n".join(lines) + "\n"


def picture(results, out):
    """Share of N times one GPU over the world size, ours solid, the peer's dashed."""
    if shutil.which("gnuplot") is None:
        print(f"no gnuplot here: run bench_scaling.sh --report --out {out} where there is one")
        return
    runs = results["runs"]
    blocks, curves = [], []
    for who, dash in (("lockstep", 1), ("peer", 2)):
        for index, row in enumerate(sorted({r["row"] for r in runs})):
            points = [(n, share(runs, row, n, who))
                      for n in sorted({r["ranks"] for r in runs if r["row"] == row})]
            points = [f"{n} {100 * value}" for n, value in points if value is not None]
            if not points:
                continue
            title = row if who == "lockstep" else f"{row}, PyTorch DDP"
            curves.append(f"'-' using 1:2 with linespoints lt {index + 1} dt {dash} pt 7 "
                          f"lw 2 title '{title}'")
            blocks.append("\n".join(points) + "\ne")
    if not curves:
        return
    script = f"""set terminal svg size 960,600 dynamic background rgb 'white' font 'sans-serif,14'
set output '{out / "scaling.svg"}'
set logscale x 2; set xlabel 'GPUs'; set ylabel 'share of N times one GPU (%)'
set yrange [0:110]; set grid; set key bottom left
plot {", ".join(curves)}
""" + "\n".join(blocks) + "\n"
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def write(results, out):
    out = pathlib.Path(out)
    text = "\n".join(results.get("machine", {}).get("gpus", [])) + "\n\n"
    text += table(results) + "\n" + checks(results)
    (out / "scaling.md").write_text(text, encoding="utf-8")
    print(text)
    picture(results, out)
