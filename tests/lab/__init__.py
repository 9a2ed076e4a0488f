"""The real services that the tests talk to, started privately and ended by pid."""
