"""The report: one HTML file that explains the demo's result to somebody who decides, not codes."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_iss.demo import charts

_STYLE = Path(__file__).with_name("page.css")


def render(results: Mapping[str, Any]) -> str:
    """The page, complete in itself: style, drawings and figures inside, nothing to load, no script.

    Args:
        results: What `keras_iss.demo.run` returns and writes as `results.json`.

    Returns:
        HTML.
    """
    sections = [
        _head(results),
        _before_and_after(results),
        _units(results),
        _learning(results),
        _promises(results),
        _method(results),
        _limits(results),
    ]
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>keras-iss demo: "
        f"{html.escape(headline(results))}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def headline(results: Mapping[str, Any]) -> str:
    """The result in one line, in words that the figures bear out."""
    removed, speed = results["removed"], results["files"]["small_float32"]["speedup"]
    return f"{removed:.0%} of the work removed, {speed:.1f} times as fast, {_quality(results)}"


def _quality(results: Mapping[str, Any]) -> str:
    more = results["small"]["bits"] - results["dense"]["bits"]
    if more < -0.005:
        return "and slightly better"
    if more <= 0.005:
        return "and just as good"
    return "nearly as good" if more <= 0.02 else f"at a cost of {more:.2f} bits per character"


def _head(results: Mapping[str, Any]) -> str:
    dense, small, files = results["dense"], results["small"], results["files"]
    quick = (
        '<p class="notice">This was a quick run: a small model, little text, short training. It shows '
        "that everything "
        "works; its figures say nothing. Run <code>keras-iss demo</code> for figures that do.</p>"
        if results["quick"]
        else ""
    )
    baseline, int8 = files["dense_keras"], files["small_int8"]
    tiles = [
        (f"−{results['removed']:.0%}", "multiplications and additions per character"),
        (
            f"{files['small_float32']['speedup']:.1f}×",
            f"as fast as the full model in Keras's own export; {int8['speedup']:.1f}× with 8-bit weights",
        ),
        (
            f"{_megabytes(int8['size_bytes'])}",
            f"file with 8-bit weights; the full model takes {_megabytes(baseline['size_bytes'])}",
        ),
        (
            f"{small['hits']:.1%}",
            f"of unseen characters guessed right; the full model: {dense['hits']:.1%}",
        ),
    ]
    return (
        f'<p class="eyebrow">keras-iss demo · report</p>\n<h1>{html.escape(headline(results))}</h1>\n'
        '<p class="lead">A model that guesses the next character of a text, as a phone keyboard does, was '
        "trained twice from "
        "the same start: once at full size, and once with keras-iss removing the parts it can do without "
        "while it "
        f"learns. This page compares the two on this computer.</p>\n{quick}"
        '<ul class="figures">'
        + "".join(
            f"<li><b>{html.escape(figure)}</b><span>{html.escape(what)}</span></li>" for figure, what in tiles
        )
        + "</ul>"
    )


def _before_and_after(results: Mapping[str, Any]) -> str:
    files = results["files"]
    names = {
        "dense_keras": "Full model, Keras's export",
        "dense_float32": "Full model, our export",
        "small_float32": "Small model",
        "small_int8": "Small model, 8-bit weights",
    }

    def kind(name: str) -> str:
        return "small" if name.startswith("small") else "dense"

    times = [
        (label, files[n]["median_ms"], f"{files[n]['median_ms']:.2f} ms", kind(n))
        for n, label in names.items()
    ]
    sizes = [
        (label, files[n]["size_bytes"], _megabytes(files[n]["size_bytes"]), kind(n))
        for n, label in names.items()
    ]
    bits = [(label, files[n]["bits"], f"{files[n]['bits']:.3f}", kind(n)) for n, label in names.items()]
    work = [
        ("Full model", results["dense"]["macs"], f"{results['dense']['macs']:,}", "dense"),
        ("Small model", results["small"]["macs"], f"{results['small']['macs']:,}", "small"),
    ]
    steps, share = results["data"]["steps"], files["dense_float32"]["speedup"]
    blind = math.log2(results["data"]["vocabulary"])
    cards = [
        ("Time to read " + f"{steps} characters", times,
         f"Shorter is better. Our export alone makes the full model {share:.1f} times as fast; the rest "
         f"comes from the "
         "removed units and the 8-bit weights."),
        ("Multiply-adds per character", work, "The arithmetic the computer does for every character it reads. "
         "It decides battery use and how slow a phone may be."),
        ("Size of the file", sizes, "What an app has to ship and load."),
        ("Bits per character on unseen text", bits,
         "The measure of quality: how many yes-or-no questions, on average, still stand between the model "
         "and the "
         f"character that comes. Lower is better; blind guessing takes {blind:.1f}."),
    ]  # fmt: skip
    body = "".join(
        f"<section "
        f'class="card"><h3>{html.escape(title)}</h3>{charts.bars(rows)}<p>{html.escape(text)}</p></section>'
        for title, rows, text in cards
    )
    return f'<h2>Before and after</h2>\n<div class="pair">{body}</div>'


def _units(results: Mapping[str, Any]) -> str:
    cards = []
    for i, (name, kept) in enumerate(results["kept"].items()):
        place = ("First", "Second", "Third")[i] if i < 3 else f"{i + 1}th"
        text = f"{place} layer: {sum(kept)} of {len(kept)} units stay"
        cards.append(f'<section class="card"><h3>{text}</h3>{charts.units(kept, name)}</section>')
    return (
        "<h2>What was removed</h2>\n<p>The model's memory is made of units, small counters that each "
        "follow something in "
        "the text. Every square is one of them: filled ones stay, pale ones were found dispensable. A "
        "unit that goes takes "
        "all its connections along, in its own layer and in the next, so what remains is an ordinary smaller "
        f'model that needs no special hardware or software.</p>\n<div class="pair">{"".join(cards)}</div>'
    )


def _learning(results: Mapping[str, Any]) -> str:
    dense, small, plan = results["dense"]["curve"], results["small"]["curve"], results["plan"]
    phases = [("warm-up", 0), ("units go", plan["warmup"]), ("small model", plan["warmup"] + plan["ramp"])]
    quality = charts.lines(
        {
            "full model": (dense["validation_bits"], "dense"),
            "pruned model": (small["validation_bits"], "small"),
        },
        title="Bits per character on unseen text after each epoch",
        phases=phases,
        number=".2f",
    )
    layers = list(small["units"][0])
    units = charts.lines(
        {
            label: ([epoch[layer] for epoch in small["units"]], kind)
            for layer, label, kind in zip(
                layers, ("first layer", "second layer"), ("small", "second"), strict=True
            )
        },
        title="Units alive after each epoch",
        phases=phases,
        from_zero=True,
    )
    spent = {name: sum(results[name]["curve"]["seconds"]) for name in ("dense", "small")}
    return (
        "<h2>How it learned</h2>\n<p>Both trainings saw the same text for the same number of steps; an "
        "epoch is one pass "
        "through it. Once the superfluous units are gone, training goes on with the small model. "
        f"Training the full model took {_duration(spent['dense'])}, the other "
        f"{_duration(spent['small'])}.</p>\n"
        f'<div class="pair"><section class="card"><h3>Bits per character on unseen text, by '
        f"epoch</h3>{quality}</section>"
        f'<section class="card"><h3>Units alive, by epoch</h3>{units}</section></div>'
    )


def _promises(results: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(c['what'])}</td><td class=number>{html.escape(c['target'])}</td>"
        f'<td class="number measured">{html.escape(c["measured"])}</td>'
        f"<td class={'met' if c['met'] else 'missed'}>{'met' if c['met'] else 'not met'}</td></tr>"
        for c in results["checks"]
    )
    return (
        "<h2>Aims and results</h2>\n<p>The aims were set before the run; the results come from this run.</p>\n"
        '<div class="wide"><table><thead><tr><th>Aim</th><th class=number>Wanted</th><th '
        "class=number>Measured</th>"
        f"<th>Result</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _method(results: Mapping[str, Any]) -> str:
    data, plan, machine, versions = (results[k] for k in ("data", "plan", "machine", "versions"))
    facts = [
        f"Text: the language reference that Python {versions['python']} carries, "
        f"{data['characters_read']:,} characters; "
        f"{data['characters_used']:,} after repeated paragraphs were taken out. {data['topics'][1]} of its "
        f'{sum(data["topics"])} topics were held out for testing; "unseen text" means those.',
        f"Model: two LSTM layers of {plan['units']} units, {data['vocabulary']} characters; "
        f"{plan['epochs']} epochs of {data['training_windows']:,} windows of {data['steps']} characters, "
        f"{plan['batch_size']} to a step, Adam with a rate that falls from {plan['learning_rate']} to 0, "
        f"in both trainings.",
        f"Pruning: the target was {results['target']:.0%} of the multiply-adds. keras-iss chose the "
        f"units, brought them to "
        "zero, and cut them out; the cut was checked to leave the model's answers unchanged.",
        f"Speed: {results['runs']} calls per file, batch of 1, {data['steps']} characters, 1 thread, the "
        f"files taking turns; "
        "medians. Quality: every file run on "
        f"{data['validation_windows'] * data['steps']:,} unseen characters.",
        f"Machine: {machine}. Backend: {versions['backend']}; Keras {versions['keras']}, TensorFlow "
        f"{versions['tensorflow']}, LiteRT {versions['litert']}, keras-iss {versions['keras_iss']}.",
        f"The whole run took {_duration(results['seconds']['total'])}. To repeat it: "
        f"<code>{html.escape(results['command'])}</code>",
    ]
    items = "".join(f"<li>{f if '<code>' in f else html.escape(f)}</li>" for f in facts)
    return (
        f'<h2>How it was measured</h2>\n<ul class="plain">{items}</ul>\n<p>All figures, with both '
        f"learning curves, are in "
        "<code>results.json</code> beside this page.</p>"
    )


def _limits(results: Mapping[str, Any]) -> str:
    return (
        '<h2>What this does not show</h2>\n<ul class="plain">'
        "<li>One small model, one text, one run. How much can go depends on the task: a model that is "
        "barely large enough "
        "loses quality, one that is too large may gain some.</li>"
        "<li>The times are this computer's. A phone will differ, most where models are so small that "
        "overhead counts.</li>"
        "<li>The 8-bit file is rounded, so its answers differ slightly from the trained model's; its "
        "quality above was measured "
        "on the file itself.</li></ul>"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes"
