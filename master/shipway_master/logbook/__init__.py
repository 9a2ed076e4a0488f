"""The output of all tasks: written in groups, read in pages, followed without polling."""

from __future__ import annotations

from shipway_master.logbook.book import LogBook as LogBook
from shipway_master.logbook.book import TaskEnds as TaskEnds
from shipway_master.logbook.lines import LogFields as LogFields
from shipway_master.logbook.lines import LogLine as LogLine
from shipway_master.logbook.query import LogQuery as LogQuery
from shipway_master.logbook.tasks import StoredTasks as StoredTasks
