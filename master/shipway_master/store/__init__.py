"""What the master must still know after a crash: one database, one module per area of it.

A new table is three things: its model in `store/<area>.py`, that module in the imports below (so
that the metadata is complete), and a migration in `store/migrations/versions/`, whose file name
starts with the next number and whose `down_revision` is the number before. A test compares models
and migrations.
"""

from __future__ import annotations

from shipway_master.store import agents as agents
from shipway_master.store import checkpoints as checkpoints
from shipway_master.store import cluster as cluster
from shipway_master.store import dispatches as dispatches
from shipway_master.store import experiments as experiments
from shipway_master.store import logs as logs
from shipway_master.store import models as models
from shipway_master.store import policies as policies
from shipway_master.store import profiler as profiler
from shipway_master.store import tasks as tasks
from shipway_master.store import templates as templates
from shipway_master.store import tensorboards as tensorboards
from shipway_master.store import trialmetrics as trialmetrics
from shipway_master.store import users as users
from shipway_master.store import webhooks as webhooks
from shipway_master.store import workspaces as workspaces
from shipway_master.store.base import Base as Base
from shipway_master.store.database import Database as Database
