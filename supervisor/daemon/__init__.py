"""The daemon: many jobs over time. Knows jobs and asyncio, touches Linux through isolation's door."""
