"""A picture of the study: SVG that follows the reader's light or dark colours."""

from .study import Point

PANEL_WIDTH, PANEL_HEIGHT = 380, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 74, 58, 44
"""Around the axes of a panel."""
COLOURS = ("first", "second", "third", "fourth")
STYLE = """
 text { font-family: sans-serif; font-size: 12px; fill: #333; stroke: none }
 .title { font-size: 14px; font-weight: bold }
 .small { font-size: 11px; fill: #666 }
 .grid { stroke: #ddd }
 polyline { fill: none; stroke-width: 2 }
 .first { fill: #1f6fb4; stroke: #1f6fb4 }
 .second { fill: #c2570c; stroke: #c2570c }
 .third { fill: #2e7d32; stroke: #2e7d32 }
 .fourth { fill: #8e44ad; stroke: #8e44ad }
 @media (prefers-color-scheme: dark) {
  text { fill: #ddd }
  .small { fill: #aaa }
  .grid { stroke: #444 }
  .first { fill: #6db3f2; stroke: #6db3f2 }
  .second { fill: #f5a05a; stroke: #f5a05a }
  .third { fill: #7fc684; stroke: #7fc684 }
  .fourth { fill: #c795e0; stroke: #c795e0 }
 }
"""


def ticks(low: float, high: float) -> list[float]:
    """Round values that enclose `low` and `high`."""
    steps = [scale * step for scale in (0.01, 0.1, 1.0) for step in (1, 2, 5)]
    step = next((s for s in steps if (high - low) / s <= 6), steps[-1])
    first, last = int(low // step), int(-(-high // step))
    return [round(index * step, 2) for index in range(first, last + 1)]


def panel(domain: str, points: list[Point], depths: list[int]) -> list[str]:
    """Loss over attach depth, one line for each rank; from the panel's own upper left corner."""
    losses = ticks(min(p.loss for p in points), max(p.loss for p in points))
    right, bottom = PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM

    def x(depth: float) -> float:
        return LEFT + (right - LEFT) * (depth - depths[0]) / max(depths[-1] - depths[0], 1)

    def y(loss: float) -> float:
        return bottom - (bottom - TOP) * (loss - losses[0]) / max(losses[-1] - losses[0], 1e-9)

    base = max(point.base_loss for point in points)
    lines = [
        f'<text class="title" x="{LEFT}" y="22">{domain}</text>',
        f'<text class="small" x="{LEFT}" y="40">loss on the dev set; base {base:.2f}</text>',
        f'<text class="small" x="{(LEFT + right) / 2:.1f}" y="{PANEL_HEIGHT - 8}" '
        'text-anchor="middle">attach depth (first layer of the expert)</text>',
    ]
    for loss in losses:
        lines.append(
            f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(loss):.1f}" y2="{y(loss):.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>'
        )
    for depth in depths:
        lines.append(
            f'<text x="{x(depth):.1f}" y="{bottom + 18}" text-anchor="middle">{depth}</text>'
        )
    for colour, rank in zip(COLOURS, sorted({point.rank for point in points})):
        lines.append(f'<g class="{colour}">')
        of_rank = sorted((p for p in points if p.rank == rank), key=lambda p: p.attach_depth)
        places = [(x(p.attach_depth), y(p.loss)) for p in of_rank]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        lines.append(f'<polyline points="{path}"/>')
        for point, (px, py) in zip(of_rank, places):
            told = f"rank {rank}, depth {point.attach_depth}: {point.loss}, {point.package_mb} MB"
            lines.append(
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4"><title>{told}</title></circle>'
            )
        px, py = places[-1]
        lines.append(f'<text x="{px + 10:.1f}" y="{py + 4:.1f}">rank {rank}</text></g>')
    return lines


def plot(points: list[Point]) -> str:
    """One panel for each domain, side by side."""
    domains = sorted({point.domain for point in points})
    depths = sorted({point.attach_depth for point in points})
    width = PANEL_WIDTH * len(domains)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {PANEL_HEIGHT}" '
        f'width="{width}" height="{PANEL_HEIGHT}">',
        f"<style>{STYLE}</style>",
    ]
    for index, domain in enumerate(domains):
        lines.append(f'<g transform="translate({PANEL_WIDTH * index} 0)">')
        lines += panel(domain, [point for point in points if point.domain == domain], depths)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>"]) + "\n"
