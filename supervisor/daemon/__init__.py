"""The daemon: many jobs over time. Knows jobs and asyncio, and Linux by isolation's door only."""
