"""Every Python example of the docs runs, page by page, in an empty folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for page in DOCS.glob("*.md") if "```python" in page.read_text(encoding="utf-8"))


@pytest.mark.skipif(not PAGES, reason="the tests were installed without the docs")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error::kyori.errors.KyoriWarning", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{page.name}:\n{done.stderr}"


def test_both_readmes_say_the_same():
    """The Japanese page has the same commands, and links where the English one links."""
    texts = [(DOCS.parent / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md")]
    commands = [
        [line.partition("  #")[0].replace(" --lang ja", "").rstrip() for line in block.splitlines()]
        for text in texts
        for block in [
            "\n".join(re.findall(r"^```(?:bash|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        ]
    ]
    assert commands[0] == commands[1]
    assert sum("-m pytest" in line for line in commands[0]) == 1
    for text in texts:
        for target in re.findall(r"\]\(((?!http)[^)]+)\)", text):
            assert (DOCS.parent / target).exists(), f"a link to {target}, which does not exist"
