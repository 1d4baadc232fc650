"""From results.jsonl to Markdown: ratios, leads and tables, none of them ever typed."""

import json
from pathlib import Path
from statistics import median

from tests.speed.work import WITHOUT_SHARE, Work

RESULTS = Path(__file__).with_name("results.jsonl")
LEAD = 1.05  # a smaller lead is noise
MEASURES = {
    "median": lambda row: median(row["wall"]),
    "minimum": lambda row: min(row["wall"]),
    "CPU": lambda row: median(row["cpu"]),
}


def append(record: dict, path: Path = RESULTS) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def newest(path: Path = RESULTS) -> list[dict]:
    """The last record of each work, in the order in which the works first came."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return list({record["work"]["title"]: record for record in records}.values())


def speeds(row: dict, reference: dict) -> dict[str, float]:
    """How many times as fast as the reference, by each measure."""
    return {name: value(reference) / value(row) for name, value in MEASURES.items()}


def ahead(row: dict, other: dict) -> bool:
    """Whether a row leads another: by median, by minimum and by CPU time, each by 1.05."""
    return min(speeds(row, other).values()) >= LEAD


def table(record: dict) -> str:
    """One race in Markdown: speed against the first competitor, and who leads."""
    work, present = Work(**record["work"]), [r for r in record["competitors"] if r.get("wall")]
    reference, matrix = present[0], median(record["matrix_rate"])
    lines = [
        f"### {work.title}",
        "",
        "| | speed: median | minimum | CPU | seconds | share of matrix rate | first call, s |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in record["competitors"]:
        if row not in present:
            lines.append(f"| {row['name']} | {row['missing']} | | | | | |")
            continue
        cells = [f"{speed:.2f}" for speed in speeds(row, reference).values()]
        seconds = median(row["wall"])
        share = f"{work.flops() / seconds / matrix:.0%}" if work.kind not in WITHOUT_SHARE else ""
        cells += [f"{seconds:.3f}", share, f"{row['first_call']:.1f}"]
        note = f" ({row['note']})" if "note" in row else ""
        lines.append(f"| {row['name']}{note} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return "\n".join(
        [
            *lines,
            "",
            *leads(present),
            f"{record['processor']}, {matrix / 1e9:.0f} GFLOP/s in {work.dtype} products; "
            f"{len(reference['wall'])} rounds; commit {record['commit']}, {record['when'][:10]}; "
            f"{versions}.",
        ]
    )


def leads(present: list[dict]) -> list[str]:
    """The claim about zoo against the fastest of its peers."""
    peers = [row for row in present if row["name"] != "zoo"]
    zoo = [row for row in present if row["name"] == "zoo"]
    if not (peers and zoo):
        return []
    best = min(peers, key=MEASURES["median"])
    against = speeds(zoo[0], best)["median"]
    if ahead(zoo[0], best):
        verdict = "ahead"
    else:
        verdict = "behind" if ahead(best, zoo[0]) else "no clear lead"
    return [f"zoo against {best['name']}: {against:.2f}, {verdict}.", ""]


def tables(path: Path = RESULTS) -> str:
    """The summary, then every race."""
    records = newest(path)
    return "\n\n".join([summary(records), *map(table, records)])


def summary(records: list[dict]) -> str:
    """The races in Markdown, a line each: speeds against the first competitor, by median."""
    lines = ["| | 1.0 | best peer | zoo | lead |", "|---|---|---|--:|--:|"]
    for record in records:
        reference, *_ = present = [row for row in record["competitors"] if row.get("wall")]
        speed = {row["name"]: speeds(row, reference)["median"] for row in present}
        zoo = speed.pop("zoo")
        best = max(speed, key=speed.get)
        lines.append(
            f"| {record['work']['title']} | {reference['name']} | {best}: {speed[best]:.2f} "
            f"| {zoo:.2f} | {zoo / speed[best]:.2f} |"
        )
    return "\n".join(lines)
