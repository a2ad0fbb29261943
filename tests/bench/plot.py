#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the results of the benchmarks with gnuplot: plot.py DIRECTORY JSON...

Makes an SVG in DIRECTORY for each kind of results that the JSON files hold, and prints the same as Markdown tables.
"""

import json
import pathlib
import subprocess
import sys

# A bar for each row: `$data` has the label and the value, `target` is the SVG.
BARS = """set terminal svg noenhanced size 900,{height} font "sans,13" background "white"
set output "{target}"
set title "{title}"
set xlabel "{axis}"
set logscale x
set grid x
set yrange [-0.6:{rows}-0.4]
set format x "%g"
unset key
set style fill solid 0.6
set ytics ({labels})
set xrange [{least}:{most}]
$data << EOD
{data}
EOD
plot $data using (0):0:(0):2:($0-0.35):($0+0.35) with boxxyerror lc rgb "#3b6ea5", \\
     $data using 2:0:(sprintf("  %.3g", $2)) with labels left
"""


def quoted(text):
    return '"' + text.replace('"', "'") + '"'


def draw_bars(target, title, axis, rows):
    """`rows`: pairs of label and value, drawn from top to bottom."""
    rows = rows[::-1]
    values = [value for _, value in rows]
    least = min(values) / 2
    script = BARS.format(
        height=90 + 26 * len(rows), target=target, title=title, axis=axis, rows=len(rows), least=least, most=max(values) * 3,
        labels=", ".join(f"{quoted(label)} {place}" for place, (label, _) in enumerate(rows)),
        data="\n".join(f"{quoted(label)} {value}" for label, value in rows)).replace("using (0):0:(0):2", f"using ({least}):0:({least}):2")
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    print("\n".join(lines) + "\n")


def draw_peers(directory, rows):
    draw_bars(directory / "performance-peers.svg", "Opening and closing a file", "times the barest broker", [(row["peer"], row["of_barest"]) for row in rows])
    table(["way", "µs", "of B"], [[row["peer"], f"{row['microseconds']:.2f}", f"{row['of_barest']:.2f}"] for row in rows])


def draw_ipc(directory, rows):
    for cpus in sorted({row["cpus"] for row in rows}):
        chosen = [row for row in rows if row["cpus"] == cpus]
        sizes = sorted({row["bytes"] for row in chosen})
        names = list(dict.fromkeys(row["mechanism"] for row in chosen))
        value = {(row["mechanism"], row["bytes"]): row["microseconds"] for row in chosen}
        # On several CPUs all bars are as long as a wake-up: the table is enough.
        if cpus == 1:
            draw_bars(directory / "performance-ipc-1-cpu.svg", "A message of 26 bytes and an answer, one CPU", "µs",
                      [(name, value[name, sizes[0]]) for name in names])
        table([f"µs, {cpus} CPU{'s' * (cpus > 1)}"] + [f"{size:,} B" for size in sizes],
              [[name] + [f"{value[name, size]:.2f}" for size in sizes] for name in names])


def draw_starts(_, rows):
    table(["start", "ms"], [[row["peer"], f"{row['microseconds'] / 1000:.2f}"] for row in rows])


KINDS = {"peers": draw_peers, "ipc": draw_ipc, "starts": draw_starts}


def main(directory, *files):
    for file in files:
        for kind, rows in json.loads(pathlib.Path(file).read_text(encoding="utf-8")).items():
            if kind in KINDS:
                KINDS[kind](pathlib.Path(directory), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
