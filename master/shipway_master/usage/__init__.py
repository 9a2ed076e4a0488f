"""How much of the cluster who has used: read from the runs that the database knows.

runs.py (rows of a span of time) → sums.py (slot-seconds by day or month) → routes.py (CSV, for
people) and services/usage.py (the API). waits.py tells how long they had waited.
"""

from shipway_master.usage.routes import UsageRoutes
from shipway_master.usage.runs import Run, load_runs
from shipway_master.usage.sums import Period, Sum, parse_periods, sum_up

__all__ = ["Period", "Run", "Sum", "UsageRoutes", "load_runs", "parse_periods", "sum_up"]
