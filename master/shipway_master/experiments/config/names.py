"""Names for experiments that were given none: three words that are easily told apart."""

from __future__ import annotations

import random
from typing import Final

_MANNERS: Final = (
    *("barely", "boldly", "calmly", "deeply", "evenly", "fairly", "freshly", "gently", "gladly"),
    *("hugely", "kindly", "lightly", "mildly", "mostly", "neatly", "openly", "partly", "quietly"),
    *("rarely", "really", "richly", "shyly", "slowly", "softly", "surely", "truly", "warmly"),
)
_LOOKS: Final = (
    *("amber", "ancient", "bright", "broad", "calm", "clear", "cosy", "crisp", "curly", "dappled"),
    *("distant", "early", "golden", "green", "hollow", "humble", "idle", "late", "little", "mossy"),
    *("narrow", "noble", "pale", "plain", "polar", "quick", "round", "sandy", "silver", "sunny"),
)
_THINGS: Final = (
    *("anchor", "bay", "beacon", "bridge", "brook", "canal", "cliff", "cove", "current", "delta"),
    *("dune", "ferry", "fjord", "gull", "harbour", "heron", "island", "jetty", "kelp", "lagoon"),
    *("lantern", "mast", "oar", "otter", "pier", "reef", "sail", "schooner", "shoal", "tide"),
)


def suggest_name(seed: int) -> str:
    """Make up a name, always the same for one *seed*."""
    chosen = random.Random(seed)  # noqa: S311 (nothing to guess)
    return f"Experiment ({'-'.join(chosen.choice(words) for words in (_MANNERS, _LOOKS, _THINGS))})"
