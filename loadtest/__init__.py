"""Load tests with gates, and trials, of a running server. They know it by HTTP and signals only. Needs the
`loadtest` extra."""
