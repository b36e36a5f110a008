"""Many jobs over time: what was asked, who asked, and how it ended."""
