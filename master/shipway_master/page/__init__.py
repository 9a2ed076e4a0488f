"""The page for people: static files in `static/`, which speak to the API as the user's browser."""

from shipway_master.page.routes import PageRoutes

__all__ = ["PageRoutes"]
