"""The other end of the daemon's API: one set of messages, a blocking and an asyncio client."""
