"""The pumps that join a machine to a link: blocking and asyncio, one turn for both."""
