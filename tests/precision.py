"""How often each cause is right, by protocol: counted over captures whose truth is known, written to a table.

``python -m tests.precision`` reads the lab, the incidents, the reports after public problems, the cases of `captures/`
and every judged capture of the corpus, and writes `pcapdiag/rules/precision.tsv`: for each code and protocol how many
judged claims were true, misleading (the cause is near, the words or the severity are not) and false. What the program
may call confirmed is read from there, so the table is made again whenever rules change.
"""

import argparse
import csv
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pcapdiag
from tests.conftest import ROOT
from tests.lab_truth import Form, fill_expected, scenarios

SHARED = ROOT.parent / "shared"
TABLE = ROOT / "pcapdiag" / "rules" / "precision.tsv"
LAB = SHARED / "captures" / "lab"
CASES = ROOT / "captures"
CAUSE = re.compile(r"PD([1-3]\d\d|40[124]|502)")
BESIDE = {"PD108", "PD110", "PD208"}
VERDICTS = ("true", "misleading", "false")
LOGS = {
    "error.log": "error_logs",
    "access.log": "access_logs",
    "haproxy.log": "access_logs",
    "nginx.conf": "proxy_conf",
    "haproxy.cfg": "proxy_conf",
    "httpd.conf": "proxy_conf",
}


def claims_of(report):
    """Yield (code, protocol, severity, file frame) of every occurrence that a report does not only think possible."""
    table = report.connections
    protocols = dict(zip(table["uid"], table["protocol"], strict=True)) if len(table) else {}
    for finding in report.to_json()["findings"]:
        if finding["confidence"] == "possible":
            continue
        for o in finding["occurrences"]:
            protocol = protocols.get(o["uid"], "any")
            if not CAUSE.fullmatch(finding["code"]) or finding["code"] in BESIDE:
                protocol = "any"
            elif o["depth"] < 0 and finding["code"] != "PD304":
                protocol = "tcp"
            yield finding["code"], protocol, finding["severity"], o["request_frame"]


def of_lab(counts):
    """Count what is said of each request of the lab, whose truth is known."""
    for scenario in scenarios():
        form = Form(scenario, "proxy.pcap", (LAB / scenario / "proxy.pcap",))
        fill_expected(form)
        expected = {frame: e.code for (_, frame), e in form.expected.items()}
        for code, protocol, _, frame in claims_of(pcapdiag.analyze(*form.paths)):
            if CAUSE.fullmatch(code) and code not in BESIDE and code != "PD203":
                counts[code, protocol, "true" if expected.get(frame) == code else "false"] += 1


def of_folders(counts, name):
    """Count what is said of incidents with expectations: codes and how often each is there."""
    root = SHARED / "captures" / name
    for folder, want in json.loads((root / "expected.json").read_text()).items():
        path = root / folder
        is_flat = (path / "capture.pcap").exists()
        capture, logs = (path / "capture.pcap", path) if is_flat else (path / "proxy.pcap", path / "proxy")
        given = {}
        for file, option in LOGS.items():
            if (logs / file).exists() and (logs / file).stat().st_size:
                given.setdefault(option, []).append(str(logs / file))
        options = {k: v[0] if k == "proxy_conf" else v for k, v in given.items()}
        claims = list(claims_of(pcapdiag.analyze(capture, **options)))
        expected = {c: n if isinstance(n, int) else max(n) for c, n in want.get("codes", {}).items()}
        absent = set(want.get("absent", []))
        left = Counter(expected)
        for code, protocol, severity, _ in claims:
            is_cause = CAUSE.fullmatch(code) and code not in BESIDE and severity != "info"
            if code in expected:
                left[code] -= 1
                counts[code, protocol, "true" if left[code] >= 0 else "false"] += 1
            elif code in absent or ("codes" in want and is_cause):
                counts[code, protocol, "false"] += 1


def of_cases(counts):
    """Count what the cases expect beside the causes of single requests, which the lab and the incidents have."""
    for path in sorted(CASES.glob("*/case.toml")):
        case = tomllib.loads(path.read_text())
        options = {}
        for key, files in case.get("logs", {}).items():
            option = key.replace("-", "_")
            chosen = [str(path.parent / f) for f in ([files] if isinstance(files, str) else files)]
            options[option if option in ("proxy_conf", "tls_keys") else f"{option}s"] = (
                chosen[0] if option == "proxy_conf" else chosen
            )
        if case.get("options"):
            continue
        expected = {
            check["match"]["code"]
            for check in case["check"]
            if check["in"].startswith("findings") and check["count"] != 0 and "code" in check["match"]
        }
        report = pcapdiag.analyze(*(path.parent / c for c in case["captures"]), **options)
        for code, protocol, _, _ in claims_of(report):
            if code in BESIDE or not CAUSE.fullmatch(code):
                is_there = code in expected | set(case.get("also_found", []))
                counts[code, protocol, "true" if is_there else "false"] += 1


def of_corpus(counts):
    """Count findings of captures that were read frame by frame; a code that is not judged there is not counted."""
    for table in (SHARED / "corpus" / "judged.tsv", ROOT / "tests" / "judged" / "judged.tsv"):
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for row in rows:
            must_not = {}
            for item in filter(None, row["must_not"].split(",")):
                code, _, kind = item.partition(":")
                must_not[code] = kind
            must = set(re.findall(r"(PD\d{3})>=", row["must"]))
            for code, protocol, severity, _ in claims_of(pcapdiag.analyze(SHARED / "corpus" / row["capture"])):
                if code in must:
                    counts[code, protocol, "true"] += 1
                elif code in must_not:
                    is_mild = must_not[code] == "error" and severity != "error"
                    if not is_mild or severity != "info":
                        counts[code, protocol, "misleading" if is_mild else "false"] += 1


def count():
    """Return the table as rows of text."""
    counts = Counter()
    of_lab(counts)
    of_folders(counts, "incidents")
    of_folders(counts, "reports")
    of_cases(counts)
    of_corpus(counts)
    keys = sorted({(code, protocol) for code, protocol, _ in counts if code != "PD999"})
    return [(*key, *(str(counts[*key, verdict]) for verdict in VERDICTS)) for key in keys]


def write(path=TABLE):
    """Write the table."""
    lines = ["\t".join(("code", "protocol", *VERDICTS)), *("\t".join(row) for row in count())]
    Path(path).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", nargs="?", type=Path, default=TABLE)
    write(parser.parse_args().table)
