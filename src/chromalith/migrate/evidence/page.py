"""The frame of the report: its style, and the small pieces that its sections are made of. Whatever comes from outside is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ground: #fbfbf9; --card: #ffffff; --ink: #1c1f23; --soft: #5d646d; --line: #d9dce0;
  --source: #b4690e; --target: #0b6e99; --good: #1f7a4d; --bad: #b3261e; --open: #8a6d00; --tint: #eef3f6; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --card: #1d2126; --ink: #e7e9ec; --soft: #a3abb5; --line: #383e46;
  --source: #e0a04a; --target: #5ab4dd; --good: #5fc492; --bad: #f2877f; --open: #e0c25a; --tint: #232a31; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0; }
code, .mono { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.muted, svg .muted { color: var(--soft); fill: var(--soft); }
.verdict { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; border: 1.5px solid currentColor; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.4rem, 1fr)); gap: .8rem; margin: 1.4rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.2rem; overflow-x: auto; }
.card + .card, .card + p, p + .card { margin-top: .8rem; }
svg { display: block; width: 100%; min-width: 34rem; height: auto; color: var(--ink); }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .9rem; } tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; padding-right: 1.6rem; }
td.t { white-space: nowrap; }
ul.checks { list-style: none; margin: 0; padding: 0; }
ul.checks > li { padding: .6rem 0; border-bottom: 1px solid var(--line); } ul.checks > li:last-child { border: 0; }
ul.checks .sign { display: inline-block; min-width: 8rem; font-weight: 600; }
ul.checks ul { margin: .2rem 0 0 8rem; padding: 0; list-style: none; color: var(--soft); font-size: .93rem; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .4rem; vertical-align: -.05rem; }
details { margin-top: .7rem; } details summary { cursor: pointer; color: var(--soft); } details table { margin-top: .5rem; }
@media (max-width: 40rem) { ul.checks ul { margin-left: 0; } }
@media print { body { background: none; } .card, .tile { break-inside: avoid; } }
"""


def page(title: str, body: Sequence[str]) -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{''.join(body)}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A section with its heading; empty parts are left out, and a section without any."""
    inside = "\n".join(part for part in parts if part)
    return f"\n<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def text(said: str, kind: str = "") -> str:
    """A paragraph."""
    return f"<p{_class(kind)}>{inline(said)}</p>" if said else ""


def inline(said: str) -> str:
    """A sentence: escaped, and what stands between backticks as code."""
    parts = escape(said).split("`")
    if len(parts) % 2 == 0:
        return escape(said)
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))


def card(*parts: str) -> str:
    """A box; nothing for nothing."""
    inside = "\n".join(part for part in parts if part)
    return f'<div class="card">{inside}</div>' if inside else ""


def tile(value: str, said: str) -> str:
    """A number and what it is."""
    return f'<div class="tile"><b>{escape(value)}</b><span class="muted">{escape(said)}</span></div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """A table; columns whose cells are all whole numbers stand to the right."""
    if not rows:
        return ""
    right = [all(isinstance(row[n], int) for row in rows) for n in range(len(columns))]
    head = "".join(
        f'<th{_class("n" if right[n] else "")} scope="col">{escape(name)}</th>' for n, name in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_class('n' if right[n] else 't' if _is_short(cell) else '')}>{_cell(cell)}</td>"
            for n, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """What the colours of a bar mean: colour, label, number."""
    rows = "".join(
        f'<tr><td><span class="key" style="background: var({colour})"></span>{escape(label)}</td><td class="n">{escape(number)}</td></tr>'
        for colour, label, number in entries
    )
    return f"<table><tbody>{rows}</tbody></table>"


def folded(title: str, inside: str) -> str:
    """Something that is shown when asked for."""
    return f"<details><summary>{escape(title)}</summary>{inside}</details>" if inside else ""


def _cell(cell: str | int) -> str:
    return f"{cell:,}" if isinstance(cell, int) else inline(cell)


def _is_short(cell: str | int) -> bool:
    """A time or a sign, which is not to be broken over lines."""
    return len(str(cell)) <= 20 and str(cell).endswith((" UTC", "met", "evidence"))


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
