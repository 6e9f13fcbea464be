"""Load tests with gates, and trials, of a running server: it is told nothing here but HTTP and signals. Needs
the `loadtest` extra."""
