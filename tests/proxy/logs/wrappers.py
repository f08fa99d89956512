"""What collectors, consoles and exports make of the lines of a log: a grammar, each production with its own notation.

Each production takes the lines of a log and returns the text of a file. They were written from what the programs print,
not from what the reader knows.
"""

import csv
import html
import io
import json
import random

STAMP = "2026-11-20T23:56:28"


def prefixed(*prefixes):
    """Return what writes one of the prefixes, in turn, before each line; ``{n}`` is the line's number."""
    return lambda lines: "".join(
        prefixes[n % len(prefixes)].replace("{n}", str(n + 1)) + line + "\n" for n, line in enumerate(lines)
    )


def as_csv(header, *fields, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    """Return what writes a row for each line: `fields` with None for the line itself."""

    def write(lines):
        file = io.StringIO()
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n")
        if header:
            writer.writerow(header)
        writer.writerows([line if field is None else field for field in fields] for line in lines)
        return file.getvalue()

    return write


def as_json(make, indent=None, separator="\n", around=("", "\n")):
    """Return what writes an object for each line."""
    return lambda lines: around[0] + separator.join(json.dumps(make(line), indent=indent) for line in lines) + around[1]


def pretty(make):
    """Return what writes one array of all objects, as ``--format json`` of command lines does."""
    return lambda lines: json.dumps([make(line) for line in lines], indent=2) + "\n"


def coloured(lines):
    """Write words of each line in colours, as consoles and ``grep --color`` do."""
    paint = lambda words, n: " ".join(  # noqa: E731
        f"\x1b[01;31m\x1b[K{w}\x1b[m\x1b[K" if k % 3 == n % 3 else w for k, w in enumerate(words)
    )
    return "".join(paint(line.split(" "), n) + "\n" for n, line in enumerate(lines))


PREFIXES = {
    "stern": prefixed("ingress-nginx-controller-7c6d9-x2 controller "),
    "stern, two pods": prefixed("web-7c6d9-x2 nginx ", "web-7c6d9-q8 nginx "),
    "stern -t": prefixed(f"web-7c6d9-x2 nginx {STAMP}.123456789Z "),
    "stern, short names": prefixed("web nginx "),
    "swarm": prefixed("web_nginx.1.abc123def@node-1    | "),
    "compose": prefixed("nginx-1  | "),
    "compose v1": prefixed("\x1b[36mweb_1  |\x1b[0m "),
    "journalctl": prefixed("Nov 20 23:56:28 host1 nginx[23400]: "),
    "journalctl -o short-iso": prefixed(f"{STAMP}+0000 host1 nginx[23400]: "),
    "journalctl -o short-iso-precise": prefixed(f"{STAMP}.123456+00:00 host1 nginx[23400]: "),
    "journalctl -o short-full": prefixed("Fri 2026-11-20 23:56:28 UTC host1 nginx[23400]: "),
    "journalctl -o short-unix": prefixed("1795218988.123456 host1 nginx[23400]: "),
    "rsyslog": prefixed(f"{STAMP}.101+00:00 host1 nginx: "),
    "rsyslog, local zone": prefixed(f"{STAMP}.101+01:00 web nginx: "),
    "RFC 5424": prefixed(f'<187>1 {STAMP}Z host nginx 7 - [a@1 b="c"] '),
    "CloudWatch tail": prefixed(f"{STAMP}.101000+00:00 ecs/nginx/0a1b2c "),
    "awslogs get": prefixed("/ecs/web nginx/web/0a1b2c "),
    "logcli": prefixed(f'{STAMP}Z {{app="nginx", pod="x"}} '),
    "logcli, raw time": prefixed(f'{STAMP}+01:00 {{app="nginx",filename="/var/log/nginx/error.log"}} '),
    "grep -H": prefixed("/var/log/nginx/error.log:"),
    "grep -n": prefixed("{n}:"),
    "grep -Hn": prefixed("/var/log/nginx/error.log:{n}:"),
    "grep -n -C": prefixed("{n}-", "{n}:"),
    "zgrep": prefixed("./error.log.2.gz:"),
    "cat -n": prefixed("     {n}\t"),
    "k9s": prefixed(" "),
    "a mail": prefixed("> "),
    "ansible": prefixed("web1 | "),
    "cri": prefixed(f"{STAMP}.123456789Z stderr F "),
    "kubectl --prefix": prefixed("[pod/gw-7d9/nginx] "),
    "kubectl --prefix --timestamps": prefixed(f"[pod/gw-7d9/nginx] {STAMP}.1Z "),
    "heroku": prefixed(f"{STAMP}.101+00:00 app[web.1]: "),
    "nomad": prefixed("[web-1] [stderr] "),
    "papertrail": prefixed("Nov 20 23:56:28 web-1 nginx/error.log:  "),
    "gcloud text": prefixed(f"{STAMP}.101Z  "),
    "docker logs -t": prefixed(f"{STAMP}.123456789Z "),
    "tail -f, several": lambda lines: "==> /var/log/nginx/error.log <==\n" + "".join(f"{line}\n" for line in lines),
    "grep -C": lambda lines: "--\n".join(f"{line}\n" for line in lines),
    "Windows": lambda lines: "".join(f"{line}\r\n" for line in lines),
}

TABLES = {
    "CloudWatch CSV": as_csv(("@timestamp", "@message"), "2026-11-20 23:56:28.101", None),
    "Loki CSV": as_csv(("Time", "Line", "tsNs"), "2026-11-20 23:56:28", None, "1"),
    "Splunk CSV": as_csv(("_raw", "_time", "host"), None, f"{STAMP}.000+0000", "h1", quoting=csv.QUOTE_ALL),
    "Kibana CSV": as_csv(('"@timestamp"', "message"), "Nov 20, 2026 @ 23:56:28.101", None, "-", quoting=csv.QUOTE_ALL),
    "Datadog CSV": as_csv(
        ("Date", "Host", "Service", "Content"), f"{STAMP}.101Z", "i-0a1", "nginx", None, quoting=csv.QUOTE_ALL
    ),
    "Azure CSV": as_csv(
        ("TimeGenerated [UTC]", "LogEntry", "Name"), "11/20/2026, 11:56:28.101 PM", None, "", quoting=csv.QUOTE_ALL
    ),
    "Excel, semicolons": as_csv(("Time", "Line"), "20.11.2026 23:56", None, delimiter=";"),
    "tabs": as_csv(("Time", "Line"), "20.11.2026 23:56", None, delimiter="\t"),
    "GCP CSV": as_csv(("insertId", "textPayload", "timestamp"), "0ab", None, f"{STAMP}Z"),
}


def _with(key, **more):
    return lambda line: {**more, key: line, "n": 1}


def as_hash(head, before="", after="}]", *, bare=False):
    """Return what writes a hash in Ruby's notation for each line; `bare` leaves the quotes inside as they are."""
    quoted = lambda line: f'"{line}"' if bare else json.dumps(line, ensure_ascii=False)  # noqa: E731
    return lambda lines: "".join(f"[{n}] {head}{before}{quoted(line)}{after}\n" for n, line in enumerate(lines))


_FLUENT = "kube.var.log.containers.nginx: [[1795218988.101234567, {}], {"
_RUBY = (
    '{{\n    "@timestamp" => 2026-11-20T23:56:28.101Z,\n       "message" => {},\n          "host" => {{\n    }}\n}}\n'
)

_GCP = _with("textPayload", insertId="1a", resource={"type": "k8s_container", "labels": {"pod_name": "a"}})
_KIBANA = lambda line: {"_index": "l", "_id": "1", "_source": {"message": line, "@timestamp": f"{STAMP}Z"}}  # noqa: E731 - rows of a grammar
_DATADOG = lambda line: {"id": "A", "attributes": {"service": "nginx", "message": line, "status": "error"}}  # noqa: E731
_INSIGHTS = lambda line: [{"field": "@timestamp", "value": "x"}, {"field": "@message", "value": line}]  # noqa: E731

OBJECTS = {
    "fluent-bit stdout": as_hash(_FLUENT, '"stream"=>"stderr", "log"=>', ', "kubernetes"=>{"pod_name"=>"a"}}]'),
    "fluent-bit stdout, last": as_hash("nginx: [1795218988.101234567, {", '"log"=>'),
    "fluent-bit stdout, bare": as_hash("nginx: [1795218988.101234567, {", '"log"=>', bare=True),
    "fluent-bit stdout, bare, in between": as_hash(_FLUENT, '"log"=>', ', "@x"=>"y"}]', bare=True),
    "logstash rubydebug": lambda lines: "".join(_RUBY.format(json.dumps(x, ensure_ascii=False)) for x in lines),
    "docker": as_json(lambda line: {"log": line + "\n", "stream": "stderr", "time": f"{STAMP}.1Z"}),
    "fluent-bit": as_json(lambda line: {"date": 1795218988.1, "log": line, "kubernetes": {"pod_name": "a"}}),
    "journald": as_json(_with("MESSAGE", _PID="7", SYSLOG_IDENTIFIER="nginx")),
    "journald, bytes": as_json(lambda line: {"_PID": "7", "MESSAGE": list(coloured([line]).rstrip("\n").encode())}),
    "GCP JSON lines": as_json(_GCP),
    "GCP JSON": pretty(_GCP),
    "GCP JSON payload": pretty(lambda line: {"jsonPayload": {"message": line}, "severity": "ERROR"}),
    "Kibana": as_json(_KIBANA),
    "Kibana, pretty": pretty(_KIBANA),
    "Elasticsearch": lambda lines: json.dumps({"took": 1, "hits": {"hits": [_KIBANA(x) for x in lines]}}) + "\n",
    "Datadog": as_json(_DATADOG),
    "Datadog, all": lambda lines: json.dumps({"data": [_DATADOG(x) for x in lines], "meta": {}}) + "\n",
    "Datadog, content": as_json(lambda line: {"content": {"message": line, "host": "h"}}),
    "Azure": as_json(_with("LogEntry", TimeGenerated=f"{STAMP}Z")),
    "Azure V2": pretty(_with("LogMessage", TimeGenerated=f"{STAMP}Z", LogSource="stderr")),
    "CloudWatch": pretty(_with("message", timestamp=1795218988101, logStreamName="a")),
    "CloudWatch events": lambda lines: json.dumps({"events": [{"message": x} for x in lines]}, indent=4) + "\n",
    "CloudWatch Insights": pretty(_INSIGHTS),
    "Splunk": as_json(lambda line: {"preview": False, "offset": 1, "result": {"_raw": line, "host": "h"}}),
    "Loki": as_json(lambda line: {"labels": {"app": "nginx"}, "line": line, "timestamp": f"{STAMP}Z"}),
    "Loki API": lambda lines: (
        json.dumps({"data": {"result": [{"stream": {"a": "b"}, "values": [["1795218988101", x] for x in lines]}]}})
        + "\n"
    ),
    "an array on one line": lambda lines: json.dumps([{"textPayload": x} for x in lines]) + "\n",
    "OpenTelemetry": as_json(lambda line: {"body": {"stringValue": line}, "severityText": "ERROR"}),
    "Vector": as_json(_with("message", host="a", source_type="docker_logs")),
}

PAGES = {
    "a web page": lambda lines: "".join(html.escape(line) + "\n" for line in lines),
    "a web page, numbers": lambda lines: "".join(line.replace('"', "&#34;") + "\n" for line in lines),
    "a program's string": lambda lines: "".join(json.dumps(line)[1:-1] + "\n" for line in lines),
}

NESTED = {
    "docker in journald": as_json(
        lambda line: {"MESSAGE": json.dumps({"log": f"{line}\n", "stream": "stderr", "time": f"{STAMP}Z"})}
    ),
    "CRI in fluentd": as_json(_with("log", time=f"{STAMP}Z"), around=("", "\n")),
    "stern of objects": lambda lines: OBJECTS["Loki"](lines).replace('{"labels"', 'pod-1 nginx {"labels"'),
    "syslog of objects": lambda lines: OBJECTS["docker"](lines).replace('{"log"', f'{STAMP}+0000 h nginx[7]: {{"log"'),
    "journald in CSV": lambda lines: TABLES["CloudWatch CSV"](OBJECTS["journald"](lines).splitlines()),
    "CRI in CSV": lambda lines: TABLES["Kibana CSV"](PREFIXES["cri"](lines).splitlines()),
    "stern in a mail": lambda lines: PREFIXES["a mail"](PREFIXES["stern"](lines).splitlines()),
    "journald in CSV at first": lambda lines: TABLES["Splunk CSV"](OBJECTS["docker"](lines).splitlines()),
    "compose in JSON": lambda lines: OBJECTS["Vector"](PREFIXES["compose"](lines).splitlines()),
    "rsyslog in JSON": lambda lines: OBJECTS["GCP JSON"](PREFIXES["rsyslog"](lines).splitlines()),
    "grep of journalctl": lambda lines: PREFIXES["grep -Hn"](PREFIXES["journalctl"](lines).splitlines()),
}

COLOURS = {"colours": coloured}
WRAPPERS = PREFIXES | TABLES | OBJECTS | PAGES | NESTED | COLOURS


def any_prefix(seed):
    """Return a prefix that no list has: names, numbers, stamps, brackets and labels in any order."""
    rng = random.Random(seed)
    name = lambda: rng.choice(["web-1", "gw", "nginx", "ip-10-0-0-1", "a/b.log", "x_y@n1", "7f3a9c"])  # noqa: E731
    tokens = [
        name,
        lambda: f"[{name()}]",
        lambda: f"{name()}[{rng.randrange(9999)}]:",
        lambda: f'{{{name().split("/")[0].replace("-", "_")}="{name()}"}}',
        lambda: rng.choice([f"{STAMP}Z", f"{STAMP}.1+08:00", "Nov 20 23:56:28", "2026-11-20 23:56:28,101", "23:56:28"]),
        lambda: rng.choice(["|", "-", ">", "F", "stderr", "<187>"]),
        lambda: f"({name()})",
    ]
    return "".join(rng.choice(tokens)() + rng.choice([" ", " ", "  ", "\t"]) for _ in range(rng.randint(1, 4)))
