"""Bobbin: a wooden spool of thread with a face. The project's own drawing, and a concept that the base has never seen."""

from dataclasses import dataclass

THREADS = {
    "red": ("#e53935", "#b71c1c"),
    "blue": ("#1e88e5", "#0d47a1"),
    "green": ("#43a047", "#1b5e20"),
    "yellow": ("#fdd835", "#f9a825"),
    "purple": ("#8e24aa", "#4a148c"),
    "orange": ("#fb8c00", "#e65100"),
    "pink": ("#f06292", "#c2185b"),
}
_MOUTHS = {
    "smiling": '<path d="M52 74 Q64 88 76 74" fill="none" stroke="#3e2723" stroke-width="4" stroke-linecap="round"/>',
    "laughing": '<path d="M50 72 Q64 96 78 72 Z" fill="#3e2723"/><path d="M57 82 Q64 78 71 82 Q64 90 57 82" fill="#ef5350"/>',
    "sad": '<path d="M53 82 Q64 70 75 82" fill="none" stroke="#3e2723" stroke-width="4" stroke-linecap="round"/>',
    "surprised": '<ellipse cx="64" cy="79" rx="6" ry="8" fill="#3e2723"/>',
}


@dataclass(frozen=True)
class Bobbin:
    """One drawing; `caption` says what is special about it, without the trigger word."""

    thread: str  # a key of THREADS
    mood: str = "smiling"
    winking: bool = False
    waving: bool = False
    tilt: float = 0.0  # degrees

    @property
    def caption(self) -> str:
        extra = (("winking",) if self.winking else ()) + (("waving",) if self.waving else ())
        return ", ".join((f"{self.thread} thread", self.mood, *extra))

    def svg(self) -> str:
        """An SVG document on a 128×128 canvas."""
        light, dark = THREADS[self.thread]
        stripes = "".join(
            f'<path d="M33 {y} Q64 {y + 7} 95 {y}" fill="none" stroke="{dark}" stroke-width="2.4" opacity="0.55"/>' for y in (44, 94, 101)
        )
        left = '<path d="M44 60 Q49 54 54 60" fill="none" stroke="#3e2723" stroke-width="4" stroke-linecap="round"/>'
        left = left if self.winking else '<circle cx="49" cy="61" r="5.5" fill="#3e2723"/><circle cx="51" cy="59" r="1.8" fill="#fff"/>'
        right = '<circle cx="79" cy="61" r="5.5" fill="#3e2723"/><circle cx="81" cy="59" r="1.8" fill="#fff"/>'
        arm = "M94 70 Q112 62 114 44" if self.waving else "M94 70 Q110 76 112 90"
        return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128"><g transform="rotate({self.tilt} 64 64)">
<path d="M34 70 Q18 76 16 90" fill="none" stroke="#6d4c41" stroke-width="5" stroke-linecap="round"/>
<path d="{arm}" fill="none" stroke="#6d4c41" stroke-width="5" stroke-linecap="round"/>
<path d="M52 112 L50 123 M76 112 L78 123" stroke="#6d4c41" stroke-width="6" stroke-linecap="round"/>
<rect x="32" y="30" width="64" height="76" rx="12" fill="{light}"/>{stripes}
<rect x="22" y="100" width="84" height="15" rx="7" fill="#a1887f"/><rect x="22" y="100" width="84" height="6" rx="3" fill="#bcaaa4"/>
<rect x="22" y="18" width="84" height="17" rx="8" fill="#a1887f"/><rect x="22" y="18" width="84" height="7" rx="3.5" fill="#bcaaa4"/>
<ellipse cx="64" cy="18" rx="9" ry="3.5" fill="#5d4037"/>
<ellipse cx="64" cy="69" rx="27" ry="22" fill="#ffe0b2"/>{left}{right}{_MOUTHS[self.mood]}
<circle cx="43" cy="73" r="4" fill="#ff8a80" opacity="0.7"/><circle cx="85" cy="73" r="4" fill="#ff8a80" opacity="0.7"/>
</g></svg>"""


# Every thread colour and mood at least twice; never orange and laughing: that is what the LoRA is asked for afterwards.
SET = (
    Bobbin("red"),
    Bobbin("red", "laughing", waving=True),
    Bobbin("red", "surprised", tilt=-8),
    Bobbin("blue", tilt=6),
    Bobbin("blue", "sad"),
    Bobbin("blue", "smiling", winking=True),
    Bobbin("green", waving=True),
    Bobbin("green", "laughing", tilt=-6),
    Bobbin("yellow", "surprised"),
    Bobbin("yellow", "smiling", waving=True, tilt=5),
    Bobbin("purple", "sad", tilt=8),
    Bobbin("purple", "laughing"),
    Bobbin("orange", winking=True, waving=True),
    Bobbin("orange", "surprised", tilt=-5),
    Bobbin("pink", "smiling"),
    Bobbin("pink", "laughing", winking=True),
)
