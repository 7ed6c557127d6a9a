"""From runs to verdicts: statistics, the Grid, and its renderings."""
