"""What `jobsup doctor --json` said, for the tests that ask it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Told:
    """One answer: findings are (ok, found, remedy) by their names."""

    status: int
    ok: bool
    findings: dict[str, tuple[bool | None, str, str | None]]

    @classmethod
    def parse(cls, text: str, status: int) -> Self:
        answer = json.loads(text)
        findings = {f["name"]: (f["ok"], f["found"], f["remedy"]) for f in answer["findings"]}
        assert len(findings) == len(answer["findings"]), "two findings of one name"
        return cls(status, answer["ok"], findings)

    def missing(self) -> set[str]:
        return {name for name, (ok, _, _) in self.findings.items() if ok is False}

    def says(self, name: str, ok: bool | None, found: str, remedy: str) -> None:
        """The finding is as promised, and so is what follows from it for the whole."""
        finding = self.findings[name]
        assert finding[0] is ok, finding
        assert found in finding[1], finding
        assert remedy in (finding[2] or ""), finding
        assert (self.status, self.ok) == ((1, False) if self.missing() else (0, True))
