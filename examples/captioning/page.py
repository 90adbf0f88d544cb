"""A page for everyone: what the large and the compact model say about the same images, beside what people said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --page: #f6f7f9; --card: #fff; --line: #dde1e7;
  --dense: #33658a; --compact: #2f7d4f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7ebf0; --soft: #a0abb9; --page: #14181e; --card: #1e242c; --line: #333c48;
    --dense: #8fc1e3; --compact: #86d3a2; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 3rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .6rem; }
p { margin: .4rem 0; max-width: 46rem; }
.facts { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; margin: 1.2rem 0 1.8rem; }
.facts div, article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.facts h2 { font-size: 1rem; margin: 0 0 .3rem; }
dl { margin: 0; display: grid; grid-template-columns: 1fr auto; gap: .1rem 1rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; font-variant-numeric: tabular-nums; text-align: right; }
article { margin: 0 0 .9rem; }
article h3 { font: .8rem/1.4 ui-monospace, monospace; color: var(--soft); margin: 0 0 .5rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem 1.2rem; }
.label { font-size: .8rem; font-weight: 600; margin: 0; }
.dense { color: var(--dense); } .compact { color: var(--compact); }
.said { font-size: 1.1rem; margin: 0; }
details { margin-top: .6rem; font-size: .9rem; color: var(--soft); } summary { cursor: pointer; }
ul { margin: .3rem 0 0; padding-left: 1.2rem; }
footer { margin-top: 2rem; font-size: .85rem; color: var(--soft); }
@media (max-width: 36rem) { .facts, .pair { grid-template-columns: 1fr; } }
"""


def page(dense: Mapping, compact: Mapping, references: Mapping[str, tuple[tuple[str, ...], ...]]) -> str:
    """The whole page.

    Args:
        dense, compact: Results of two models, as training writes them; both with captions of the same images.
        references: Of each of those images what people said, as words.
    """
    fewer = dense["sizes"]["recurrent_parameters"] / compact["sizes"]["recurrent_nonzero"]
    same = sum(dense["captions"][image] == compact["captions"][image] for image in dense["captions"])
    cards = "\n".join(
        _card(image, dense["captions"][image], compact["captions"][image], references[image])
        for image in dense["captions"]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Captions of twenty images</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>What two programs say about the same {len(dense["captions"])} photographs</h1>
<p>Both learned from {dense["images"]["train"]:,} photographs with captions by people, and never saw the ones below. The
second one has <strong>{fewer:.1f} times fewer numbers</strong> in the part that forms sentences. The photographs can't be
shown here; their file names and what people wrote tell what is on them.</p>
<p>These test images aren't picked: they stand at even distances in the list. {same} of the {len(dense["captions"])}
captions are the same, word for word.</p>
<section class="facts">
{_facts("dense", "The large model", dense)}
{_facts("compact", "The compact model", compact)}
</section>
{cards}
<footer><p>CIDEr measures how much of what people say about an image a caption says, too; higher is better. Photographs and
people's captions: Flickr8k (Hodosh, Young, Hockenmaier, 2013), lower case, without punctuation.</p></footer>
</body>
</html>
"""


def _facts(kind: str, title: str, result: Mapping) -> str:
    size, file = result["sizes"], result["files"]["float32"]
    rows = {
        "numbers in the sentence part, zeros left out": f"{size['recurrent_nonzero']:,}",
        "multiplications for a word, zeros left out": f"{size['macs_per_word_nonzero']:,}",
        f"quality on {result['images']['test']:,} new images (CIDEr)": f"{result['test']['beam']['CIDEr']:.3f}",
    }
    if "ms_per_caption" in file:
        rows["time for a caption"] = f"{file['ms_per_caption']:.1f} ms"
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in rows.items())
    name = escape(f"{result['model']}, seed {result['seed']}")
    return f'<div><h2 class="{kind}">{title}</h2><dl>{listed}<dt>name in the table</dt><dd>{name}</dd></dl></div>'


def _card(image: str, dense: str, compact: str, references: tuple[tuple[str, ...], ...]) -> str:
    people = "".join(f"<li>{escape(' '.join(words))}</li>" for words in references)
    return f"""<article>
<h3>{escape(image)}</h3>
<div class="pair">
<div><p class="label dense">Large model</p><p class="said">{escape(dense) or "(nothing)"}</p></div>
<div><p class="label compact">Compact model</p><p class="said">{escape(compact) or "(nothing)"}</p></div>
</div>
<details open><summary>What people said</summary><ul>{people}</ul></details>
</article>"""


def write(path: Path, text: str) -> None:
    """Writes a whole file or none."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
