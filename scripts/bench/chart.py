"""A bar chart as SVG: for each item how many times as long each peer takes as Toroid, longer is better for us."""
from html import escape

COLOURS = ["#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c"]
BAR, GAP, LEFT, WIDTH = 9, 12, 190, 560


def chart(title, rows, engines):
    """rows: {item: {engine: ratio}}; the text of the SVG"""
    most = min(max([2.0] + [r for row in rows.values() for r in row.values()]), 8.0)
    scale = WIDTH / most
    out, y = [], 46 + 14 * ((len(engines) + 3) // 4)
    for i, engine in enumerate(engines):
        x, at = LEFT + 145 * (i % 4), 40 + 14 * (i // 4)
        out.append(f'<rect x="{x}" y="{at - 8}" width="9" height="9" fill="{COLOURS[i % len(COLOURS)]}"/>'
                   f'<text x="{x + 13}" y="{at}">{escape(engine)}</text>')
    top = y
    for name, row in rows.items():
        height = BAR * max(len(row), 1)
        out.append(f'<text x="{LEFT - 8}" y="{y + height / 2 + 4:.0f}" text-anchor="end">{escape(name)}</text>')
        for i, engine in enumerate(engines):
            if engine not in row:
                continue
            ratio = row[engine]
            width = min(ratio, most) * scale
            out.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 1}" fill="{COLOURS[i % len(COLOURS)]}"/>'
                       f'<text x="{LEFT + width + 3:.1f}" y="{y + BAR - 1}" font-size="8">{ratio:.2f}</text>')
            y += BAR
        y += GAP
    line = LEFT + scale
    out.append(f'<line x1="{line:.1f}" y1="{top - 4}" x2="{line:.1f}" y2="{y - GAP + 4}" stroke="#222" stroke-dasharray="3 2"/>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 50}" height="{y + 8}" '
            f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
            f'<text x="10" y="20" font-size="14">{escape(title)}</text>\n' + "\n".join(out) + "\n</svg>\n")
