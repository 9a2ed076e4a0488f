"""What decides which trials an experiment has, and which of them go on.

Pure: no clock, no database, no network. A search is told what happened and answers what to do.
"""
