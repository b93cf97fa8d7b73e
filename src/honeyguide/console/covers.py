"""Cover art for items without a picture: an SVG drawn from the title and the first category, always the same.

No text from the catalog enters the SVG; the title is set over it by the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from random import Random

__all__ = ["cover"]

WIDTH, HEIGHT = 200, 300

# ground, three inks from quiet to loud; one family of earths, so that any twenty covers sit well side by side
_PALETTES = (
    ("#2b2118", "#5a3d22", "#a8661a", "#f0b03a"),
    ("#1f2a33", "#34495a", "#6f94a6", "#f2c879"),
    ("#3a1d1a", "#6d2f27", "#b85a3c", "#f3b56b"),
    ("#1e2c26", "#35523f", "#7c9a6a", "#e9c46a"),
    ("#2a2233", "#4a3a5c", "#8d7299", "#eab977"),
    ("#332a12", "#6b5516", "#b8901f", "#f7dc8c"),
    ("#17282e", "#265059", "#4f8f8b", "#f1cf95"),
    ("#2d1a24", "#5c2c43", "#a9566a", "#f5c38a"),
    ("#26241f", "#4b473d", "#8b8373", "#eab54d"),
    ("#301f14", "#74421f", "#cf7a32", "#ffd89a"),
)


def _ridges(draw: Random, inks: Sequence[str]) -> str:
    cx, cy, r = draw.uniform(60, 140), draw.uniform(140, 175), draw.uniform(30, 46)
    parts = [f'<circle cx="{cx:.0f}" cy="{cy:.0f}" r="{r:.0f}" fill="{inks[2]}"/>']
    for layer, ink in enumerate((inks[1], inks[0], "#0006")):
        base = 190 + layer * 36
        points = [f"{x},{base + draw.uniform(-26, 20):.0f}" for x in range(-10, 230, 34)]
        parts.append(f'<polygon points="-10,300 {" ".join(points)} 230,300" fill="{ink}"/>')
    return "".join(parts)


def _orbits(draw: Random, inks: Sequence[str]) -> str:
    cx, cy, tilt = draw.uniform(70, 130), draw.uniform(180, 205), draw.uniform(-32, 32)
    rings = "".join(
        f'<ellipse cx="{cx:.0f}" cy="{cy:.0f}" rx="{rx}" ry="{rx * 0.36:.0f}" fill="none" stroke="{inks[1]}" '
        f'stroke-width="1.6" transform="rotate({tilt:.0f} {cx:.0f} {cy:.0f})"/>'
        for rx in (62, 92, 122)
    )
    angle = draw.uniform(0, 6.28)
    stars = "".join(
        f'<circle cx="{draw.uniform(6, 194):.0f}" cy="{draw.uniform(110, 292):.0f}" r="{draw.uniform(0.6, 1.6):.1f}" '
        f'fill="{inks[2]}"/>'
        for _ in range(26)
    )
    moon = f'<circle cx="{cx + 92 * math.cos(angle):.0f}" cy="{cy + 40 * math.sin(angle):.0f}" r="9" fill="{inks[1]}"/>'
    return f'{stars}<circle cx="{cx:.0f}" cy="{cy:.0f}" r="36" fill="{inks[2]}"/>{rings}{moon}'


def _blinds(draw: Random, inks: Sequence[str]) -> str:
    slant, cx, cy = draw.uniform(16, 34), draw.uniform(70, 130), draw.uniform(180, 205)
    bars = "".join(
        f'<polygon points="-20,{y} 220,{y - slant:.0f} 220,{y - slant + 9:.0f} -20,{y + 9}" fill="{inks[0]}"/>'
        for y in range(124, 340, 20)
    )
    return f'<circle cx="{cx:.0f}" cy="{cy:.0f}" r="56" fill="{inks[2]}"/>{bars}'


def _rays(draw: Random, inks: Sequence[str]) -> str:
    cx, cy, turn = draw.uniform(60, 140), draw.uniform(225, 262), draw.uniform(0, 1)
    rays = []
    for spoke in range(18):
        a, b = (turn + spoke) * math.tau / 18, (turn + spoke + 0.5) * math.tau / 18
        ink = inks[0] if spoke % 2 else inks[1]
        rays.append(
            f'<polygon points="{cx:.0f},{cy:.0f} {cx + 300 * math.cos(a):.0f},{cy + 300 * math.sin(a):.0f} '
            f'{cx + 300 * math.cos(b):.0f},{cy + 300 * math.sin(b):.0f}" fill="{ink}" opacity=".75"/>'
        )
    return f'{"".join(rays)}<circle cx="{cx:.0f}" cy="{cy:.0f}" r="30" fill="{inks[2]}"/>'


def _discs(draw: Random, inks: Sequence[str]) -> str:
    cx, gap, cy = draw.uniform(84, 116), draw.uniform(26, 40), draw.uniform(186, 206)
    return (
        f'<circle cx="{cx - gap:.0f}" cy="{cy:.0f}" r="56" fill="{inks[1]}"/>'
        f'<circle cx="{cx + gap:.0f}" cy="{cy + draw.uniform(-14, 14):.0f}" r="56" fill="{inks[2]}" opacity=".82"/>'
        f'<path d="M-5 {cy + 62:.0f} Q 60 {cy + 42:.0f} 105 {cy + 66:.0f} T 210 {cy + 58:.0f} V305 H-5Z" '
        f'fill="{inks[0]}"/>'
    )


def _tiles(draw: Random, inks: Sequence[str]) -> str:
    parts = []
    for x in range(0, 200, 50):
        for y in range(110, 300, 50):
            ink, corner = inks[draw.choice((0, 0, 1, 1, 2))], draw.randrange(5)
            if corner == 4:
                parts.append(f'<circle cx="{x + 25}" cy="{y + 25}" r="{draw.choice((9, 16, 23))}" fill="{ink}"/>')
                continue
            px, py = x + 50 * (corner % 2), y + 50 * (corner // 2)
            sweep = 1 if corner in (0, 3) else 0
            qx, qy = x + 50 * (1 - corner % 2), y + 50 * (1 - corner // 2)
            parts.append(f'<path d="M{px} {py}H{qx}A50 50 0 0 {sweep} {px} {qy}Z" fill="{ink}"/>')
    return "".join(parts)


def _rings(draw: Random, inks: Sequence[str]) -> str:
    cx, cy = draw.uniform(80, 120), draw.uniform(184, 208)
    parts = []
    for step, radius in enumerate((96, 78, 60, 42, 24)):
        dx, dy = draw.uniform(-7, 7), draw.uniform(-7, 7)
        ink = (inks[0], inks[1])[step % 2]
        parts.append(f'<circle cx="{cx + dx:.0f}" cy="{cy + dy:.0f}" r="{radius}" fill="{ink}"/>')
    parts.append(f'<circle cx="{cx:.0f}" cy="{cy:.0f}" r="11" fill="{inks[2]}"/>')
    return "".join(parts)


def _staves(draw: Random, inks: Sequence[str]) -> str:
    swing, phase = draw.uniform(14, 30), draw.uniform(0, 6.28)
    parts = []
    for line in range(9):
        y = 132 + line * 18
        points = [f"{x},{y + swing * math.sin(x / 34 + phase + line * 0.28):.1f}" for x in range(-10, 215, 9)]
        ink = inks[2] if line == 4 else inks[line % 2]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{ink}" stroke-width="7"/>')
    return "".join(parts)


_Motif = Callable[[Random, Sequence[str]], str]
_MOTIFS: tuple[_Motif, ...] = (_ridges, _orbits, _blinds, _rays, _discs, _tiles, _rings, _staves)
_BY_CATEGORY: dict[str, tuple[_Motif, ...]] = {
    "action": (_rays, _blinds), "adventure": (_ridges, _rays), "animation": (_tiles, _orbits), "children": (_tiles,),
    "children's": (_tiles, _discs), "comedy": (_tiles, _discs, _staves), "crime": (_blinds, _rings),
    "documentary": (_staves, _ridges), "drama": (_discs, _staves, _ridges), "fantasy": (_orbits, _ridges),
    "film-noir": (_blinds, _rings), "horror": (_rings, _rays), "musical": (_staves, _tiles),
    "mystery": (_rings, _blinds), "romance": (_discs, _staves), "sci-fi": (_orbits, _rings, _rays),
    "thriller": (_blinds, _rings), "war": (_rays, _ridges), "western": (_ridges,),
}  # fmt: skip


@lru_cache(maxsize=4096)
def cover(title: str, category: str = "") -> str:
    """An SVG of 200 x 300 units. The same title and category give the same picture, on every machine."""
    digest = blake2b(f"{title}\x1f{category}".encode("utf-8", "replace"), digest_size=8).digest()
    draw = Random(int.from_bytes(digest, "big"))
    ground, *inks = _PALETTES[digest[0] % len(_PALETTES)]
    motifs = _BY_CATEGORY.get(category.casefold(), _MOTIFS)
    motif = motifs[digest[1] % len(motifs)]
    return (
        f'<svg class="art" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="xMidYMid slice" aria-hidden="true">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{ground}"/>{motif(draw, inks)}</svg>'
    )
