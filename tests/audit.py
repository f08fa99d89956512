"""Ask pip-audit whether a version in requirements/ is known to be vulnerable; leave with 1 if one is.

    .venv-release/bin/python tests/audit.py

A registry that does not tell of vulnerabilities is no failure, but is told. One package is asked about first, so that
it is not asked about hundreds in vain.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
FIRST = re.compile(r"^click==[\w.]+", re.MULTILINE)
"""What is asked about first; the package cannot do without it."""


def run_pip_audit(locks: list[Path], *options: str) -> tuple[list[dict] | None, str]:
    """Run pip-audit on locks as they are.

    Returns
    -------
    list of dict or None
        Dependencies as in its JSON; None if it ended without an answer.
    str
        What it said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        command = [sys.executable, "-P", "-m", "pip_audit", "--disable-pip", "--progress-spinner=off", "--format=json"]
        command += [f"--output={answer}", *(f"--requirement={lock}" for lock in locks), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        text = answer.read_text() if answer.exists() else ""
    return (json.loads(text)["dependencies"] if text else None), done.stderr.strip()


def is_answered() -> tuple[bool, str]:
    """Tell whether the registry knows anything of a package that it has, and what was said."""
    first = FIRST.search((ROOT / "requirements" / "runtime.txt").read_text())
    if first is None:
        sys.exit("requirements/runtime.txt holds no click")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(first[0])
        file.flush()
        found, said = run_pip_audit([Path(file.name)], "--no-deps")
    skips = [dependency["skip_reason"] for dependency in found or [] if "skip_reason" in dependency]
    return bool(found) and not skips, "; ".join(skips) or said


def main() -> None:
    """Ask, say what is known, and leave."""
    answered, said = is_answered()
    if not answered:
        print(
            f"audit: NOT DONE, no service here tells of vulnerabilities: {said.splitlines()[-1] if said else 'silence'}"
        )
        return
    found, said = run_pip_audit(LOCKS, "--require-hashes")
    if found is None:
        sys.exit(f"audit: pip-audit failed: {said}")
    unknown = sorted(dependency["name"] for dependency in found if "skip_reason" in dependency)
    bad = {d["name"]: d for d in found if d.get("vulns")}
    for name, dependency in sorted(bad.items()):
        for hole in dependency["vulns"]:
            fixed = ", ".join(hole["fix_versions"]) or "no version yet"
            print(f"{name} {dependency['version']}: {hole['id']}, mended in {fixed}")
    if unknown:
        print(f"audit: nothing is known of {', '.join(unknown)}")
    print(f"audit: {len(found) - len(unknown)} versions asked about, {len(bad)} vulnerable")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
