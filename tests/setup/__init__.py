"""The set-up of the tests: what `make test` does before it runs them."""
