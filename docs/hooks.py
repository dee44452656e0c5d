"""What the site makes of the code while it is built: a page for every loss, and their table."""

from io import BytesIO
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from kyori import losses
from kyori.errors import ArgumentError
from kyori.report import settling_page, spring_figure
from kyori.runs import settled_of

TABLE = "<!-- table of losses -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the losses into the navigation, after the guide."""
    pages = [{name: f"losses/{name}.md"} for name in losses.LOSSES]
    place = next(i for i, entry in enumerate(config.nav) if "Guide" in entry)
    config.nav.insert(place + 1, {"Losses": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write a page for each loss, draw it as springs, and let points of a plane settle under it."""
    for name in losses.LOSSES:
        picture, moving = _springs(name), _settling(name)
        page = _page(name, picture is not None, moving is not None)
        files.append(File.generated(config, f"losses/{name}.md", content=page))
        if picture is not None:
            files.append(File.generated(config, f"losses/{name}.svg", content=picture))
        if moving is not None:
            files.append(File.generated(config, f"losses/{name}-settling.html", content=moving))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the table of losses where a page asks for it."""
    return markdown.replace(TABLE, _table()) if TABLE in markdown else markdown


def _table() -> str:
    rows = ["| name | formula | time of a step |", "|---|---|---|"]
    for name in losses.LOSSES:
        card = losses.describe(name)
        rows.append(f"| [`{name}`](losses/{name}.md) | {_cell(card['formula'])} | {_cell(card['cost'])} |")
    return "\n".join(rows)


def _page(name: str, has_picture: bool, moves: bool) -> str:
    card = losses.describe(name)
    lines = [
        f"# {name}",
        "",
        f"**{card['formula']}**",
        "",
        f"{card['paper']}. Time of a step: {card['cost']}.",
        "",
    ]
    if has_picture:
        angles = losses.LOSSES[name].needs_classes
        lines += [
            f"![Force against distance]({name}.svg)",
            "",
            "An item and its own class vector, or another's, at an angle of 60° while the other moves."
            if angles
            else "One anchor with one positive and one negative, each at distance 1 while the other moves.",
            "Below 0 the two are pulled together, above 0 pushed apart.",
            "",
        ]
    if moves:
        lines += [
            "Three classes of six points in the plane under these forces, from a disordered start to rest:",
            "",
            # The page of a loss is built as losses/NAME/index.html, one level below the file.
            f'<iframe src="../{name}-settling.html" title="{name}: points settling into balance" '
            'width="100%" height="680" style="border:0" loading="lazy"></iframe>',
            "",
        ]
    lines += ["```bash", f"kyori train DATA --loss {name} --out runs/{name}", "```", ""]
    lines += [f"::: kyori.losses.{card['class']}", ""]
    return "\n".join(lines)


def _springs(name: str) -> bytes | None:
    try:
        forces: Any = losses.springs(losses.create(name, num_classes=3, embedding_size=8))
    except ArgumentError:
        return None
    figure = spring_figure(
        forces.distance.numpy(), forces.pull.numpy(), forces.push.numpy(),
        axis="angle to the class vector (radians)" if forces.angles else "distance",
        words=("own class", "other class") if forces.angles else ("positive", "negative"),
    )  # fmt: skip
    out = BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    return out.getvalue()


def _settling(name: str) -> str | None:
    settled = settled_of(name, {})
    return None if settled is None else settling_page(settled, title=name)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
