"""What may go wrong with a search.

SearchError
├── BadSearch      a configuration that no search can be made of
└── BadSnapshot    a kept state that belongs to another search, or to another version
"""

from __future__ import annotations


class SearchError(Exception):
    """Base of what may go wrong with a search."""


class BadSearch(SearchError):
    """Nothing can be searched by this configuration; the text names each mistake by its key."""


class BadSnapshot(SearchError):
    """The kept state of a search cannot be taken up."""
