"""Pictures of a table and of the networks behind it: PDF, PNG and the data as CSV."""
