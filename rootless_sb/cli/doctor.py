"""`sb doctor`: each thing that sb needs of this host, and what to type for those that it lacks."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from rootless_sb import doctor
from rootless_sb.cli.parsing import Parser

if TYPE_CHECKING:
    from rootless_sb.doctor import Finding


def main(arguments: list[str]) -> int:
    """Examine the host; 1 if something required is missing. Raises SbError."""
    options = Parser("doctor", "What this host has of what sb needs; what is missing, and what to type.", "sb doctor")
    options.add_argument("--json", action="store_true", help="print JSON")
    parsed = options.parse_strictly(arguments)
    findings = doctor.examine()
    sys.stdout.write(as_json(findings) if parsed.json else as_text(findings))
    return 0 if all(finding.ok for finding in findings if finding.requirement.required) else 1


def as_text(findings: tuple[Finding, ...]) -> str:
    """The required ones first, a line each; a missing one with its remedy on the next line."""
    required = [line for finding in findings if finding.requirement.required for line in _lines(finding)]
    second = [line for finding in findings if not finding.requirement.required for line in _lines(finding)]
    return "\n".join((f"required (Linux {os.uname().release})", *required, "", "second line", *second, ""))


def _lines(finding: Finding) -> list[str]:
    requirement = finding.requirement
    if finding.ok:
        return [f"  ✓ {requirement.title}"]
    return [f"  ✗ {requirement.failure}: {finding.why}", f"      {requirement.remedy}"]


def as_json(findings: tuple[Finding, ...]) -> str:
    """One JSON document."""
    checks = [
        {
            "id": finding.requirement.name,
            "title": finding.requirement.title,
            "ok": finding.ok,
            "required": finding.requirement.required,
            "degradable": finding.requirement.degradable,
            "why": finding.why,
            "remedy": finding.requirement.remedy,
        }
        for finding in findings
    ]
    return json.dumps({"schema": 1, "kernel": os.uname().release, "checks": checks}, indent=2) + "\n"
