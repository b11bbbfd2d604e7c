"""Puts what the demo says of its first queries into README.md, as it was printed.

python docs/demo.py             runs the demo (a minute or two)
python docs/demo.py FILE        takes its output from a file (`sqladvisor demo --no-color`)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
LAST_LINE = 30
"""Of the shop's queries that the README shows the findings of."""
_HEAD = re.compile(r"^fixtures/shop/queries\.sql:(\d+):\d+  ", re.MULTILINE)
_PLACE = re.compile(r"(<!-- demo -->\n).*?(<!-- /demo -->)", re.DOTALL)


def excerpt(output: str) -> str:
    """The findings of the first queries, the table of indexes and the sums, as a code block."""
    heads = list(_HEAD.finditer(output))
    behind = next(h.start() for h in heads if int(h[1]) > LAST_LINE)
    summary = re.search(r"^index +size +.*\Z", output, re.MULTILINE | re.DOTALL)
    assert summary, "no table of indexes in the output"
    return f"```text\n{output[:behind].rstrip()}\n\n…\n\n{summary[0].rstrip()}\n```\n"


def main() -> None:
    if len(sys.argv) > 1:
        output = Path(sys.argv[1]).read_text(encoding="utf-8")
    else:
        command = [sys.executable, "-m", "sqladvisor", "demo", "--no-color", "--quiet"]
        output = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    shown = excerpt(output)
    text = README.read_text(encoding="utf-8")
    README.write_text(_PLACE.sub(lambda m: m[1] + shown + m[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
