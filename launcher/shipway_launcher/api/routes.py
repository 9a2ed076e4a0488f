"""The application: all routes of the launcher's API, behind the gate."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from shipway_launcher.acls import AclBook
from shipway_launcher.api import admin, info
from shipway_launcher.api.access import Access
from shipway_launcher.api.auth import Gate
from shipway_launcher.api.bodies import BODY_LIMIT_MIB, BODY_TIMEOUT_S
from shipway_launcher.api.environments import Environments
from shipway_launcher.api.launching import Launching
from shipway_launcher.api.links import Links
from shipway_launcher.api.monitoring import Monitoring
from shipway_launcher.api.problems import errors_as_problems
from shipway_launcher.config import LimitSettings
from shipway_launcher.credentials import CredentialStore
from shipway_launcher.service import Launcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """What the REST face is made of."""

    launcher: Launcher
    gate: Gate
    acls: AclBook
    credentials: CredentialStore
    links: Links
    limits: LimitSettings


def make_app(face: Face) -> web.Application:
    """Make the web application."""
    app = web.Application(
        client_max_size=face.limits.body_mib << 20,
        middlewares=[face.links.note, errors_as_problems, face.gate.check],
    )
    app[BODY_LIMIT_MIB] = face.limits.body_mib
    app[BODY_TIMEOUT_S] = face.limits.body_timeout_s
    access = Access(face.launcher, face.acls)
    app.add_routes(
        [
            *info.ROUTES,
            *admin.ROUTES,
            *Launching(face.launcher, face.gate.callers, face.credentials).routes(),
            *Monitoring(face.launcher, access).routes(),
            *Environments(face.launcher, access, face.acls).routes(),
        ]
    )
    return app
