"""What trials report: checked, stored, summed up, read back and thinned out.

Reports come in by `MetricIntake` alone. With each it keeps these columns of `TrialRow` true, in the
same transaction, so that others read them there: `summary_metrics` (by `key_of_group`, then by
metric: count and type; of numbers also min, max, sum, mean, last; see `Summary`), `total_batches`,
`best_validation_id`, `latest_validation_id` (both ids of `TrialMetricRow`) and `searcher_metric`;
and of `ExperimentRow` `best_trial_id`. What an experiment is judged by says `read_searcher_metric`.
Who reads stored reports uses `StoredMetrics`; archived ones are those that a newer run of the trial
went over again, and no reader here gives them out.
"""

from __future__ import annotations
