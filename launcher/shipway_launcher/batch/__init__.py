"""From a job's wishes to the text of its batch script; pure, so that it can be printed."""
