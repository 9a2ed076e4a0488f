"""Stand-ins for pyslurm as its releases behave, for where none can be imported.

`new/pyslurm.py` follows 22.5.3 and 25.11.2, `old/pyslurm.py` 22.5.3 without its new classes: what they
raise, and with which numbers and texts, was noted from the real ones in front of Slurm 22.05.8 and 25.11.2.
Both are run by the launcher's helper in a process of its own, and told by files beside them how to fare.
"""
