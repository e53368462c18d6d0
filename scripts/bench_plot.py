"""Draws a table of bench.py as an SVG: for each row a bar per server, as a share of redis-server's figure.

    GET P16   ████████████████████████ 1.25        redis-server: the line at 1
              ██████████ 0.54                      rsredis
"""
from html import escape

COLOURS = ["#9aa5b1", "#c2410c", "#5b8fb9", "#7a9e7e", "#b59f5b"]
LABEL, PLOT, BAR, GAP = 250, 440, 13, 9
LONGEST = 2.0  # times redis-server; longer bars are cut, their figure tells


def svg(title, names, rows):
    """rows: (label, {name: number or None}); names begin with redis-server."""
    rows = [(label, numbers) for label, numbers in rows if any(numbers.get(name) is not None for name in names)]
    height = 70 + sum(BAR * len(names) + GAP for _ in rows) + 10
    unit = PLOT / LONGEST
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + PLOT + 90}" height="{height}" font-family="sans-serif" font-size="12">',
             f'<rect width="100%" height="100%" fill="#ffffff"/><text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>']
    x = 12
    for name, colour in zip(names, COLOURS):
        parts.append(f'<rect x="{x}" y="34" width="11" height="11" fill="{colour}"/><text x="{x + 16}" y="44">{escape(name)}</text>')
        x += 40 + 7 * len(name)
    y = 62
    parts.append(f'<line x1="{LABEL + unit}" y1="{y - 6}" x2="{LABEL + unit}" y2="{height - 8}" stroke="#52606d" stroke-dasharray="3 3"/>')
    for label, numbers in rows:
        parts.append(f'<text x="{LABEL - 8}" y="{y + BAR * len(names) / 2 + 4}" text-anchor="end">{escape(label)}</text>')
        whole = numbers.get(names[0]) or max(n for n in numbers.values() if n is not None) or 1
        for name, colour in zip(names, COLOURS):
            number = numbers.get(name)
            if number is not None:
                width = min(number / whole, LONGEST) * unit
                parts.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>'
                             f'<text x="{LABEL + width + 5:.1f}" y="{y + BAR - 3}" font-size="11">{number:.4g}</text>')
            y += BAR
        y += GAP
    return "\n".join([*parts, "</svg>\n"])
