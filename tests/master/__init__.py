"""Tests of shipway-master."""
